"""Processes, files and ports, as the cluster needs them; Linux."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path


def started_at(pid: int) -> str | None:
    """When a living process began, in ticks since boot: with its pid an identity for good."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in "ZX" else None


def _state(pid: int) -> str:
    """One letter, as ps says it; "" where there is no such process."""
    return "".join(_stat(pid)[:1])


def _stat(pid: int) -> list[str]:
    """What the kernel says of a process, after its name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def freeze(pids: set[int]) -> None:
    """Stop processes and wait until they are: none sees what becomes of another any more."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    # one that waits for a disk, D, stops before it does anything else
    while any(_state(pid) in ("R", "S") for pid in pids):
        time.sleep(0.01)


def kill(pids: set[int]) -> None:
    """Kill processes and wait until they are gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while any(started_at(pid) for pid in pids):
        time.sleep(0.01)


def private(path: Path, content: bytes) -> None:
    """Write a file that is nobody else's, from its beginning: SLURM and munge insist."""
    path.touch(0o600)
    path.write_bytes(content)


def listens(path: Path) -> bool:
    """Whether somebody answers at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def free_ports(count: int) -> list[int]:
    """Ports below those that the kernel gives to outgoing connections: they stay free."""
    ports: list[int] = []
    for port in random.sample(range(12000, 32000), 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(f"found no {count} free ports between 12000 and 32000")


def of_node(node: str, cluster: str, log: Path) -> set[int]:
    """The slurmd and the steps of a node, what descends from them, and what got away.

    A step hides its environment behind its title but holds the log of its node open; a
    process of a job that was left by its parents still has the job's environment.
    """
    found: set[int] = set()
    children: dict[int, set[int]] = {}
    marks = {f"SLURM_CLUSTER_NAME={cluster}".encode(), f"SLURMD_NODENAME={node}".encode()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, set()).add(int(process.name))
            of_slurm = (process / "comm").read_text().startswith("slurm")
            inside = of_slurm and any(fd.readlink() == log for fd in process.glob("fd/*"))
            if inside or marks <= set((process / "environ").read_bytes().split(b"\0")):
                found.add(int(process.name))
        except OSError:
            continue  # it ended meanwhile
    new = found
    while new:
        new = {child for pid in new for child in children.get(pid, ())} - found
        found |= new
    return {pid for pid in found if started_at(pid)}
