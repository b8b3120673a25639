"""Processes, private files, sockets and ports; Linux only."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path


def start_time(pid: int) -> str | None:
    """Return when a living process started, in ticks since boot; with the pid it is unique."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in "ZX" else None


def _state(pid: int) -> str:
    """Return the one-letter state that ps shows, or "" if there is no such process."""
    return "".join(_stat(pid)[:1])


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/<pid>/stat`` after the name, which may contain anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def freeze(pids: set[int]) -> None:
    """Stop processes and wait until they have stopped, so that none can react to the others."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    # a process in state D (waiting for a disk) stops before it does anything else
    while any(_state(pid) in ("R", "S") for pid in pids):
        time.sleep(0.01)


def kill(pids: set[int]) -> None:
    """Kill processes and wait until they have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while any(start_time(pid) for pid in pids):
        time.sleep(0.01)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can ever read, as SLURM and munge require."""
    path.touch(0o600)
    path.write_bytes(content)


def is_listening(path: Path) -> bool:
    """Return whether a process accepts connections at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def free_ports(count: int) -> list[int]:
    """Return free ports below the kernel's range for outgoing connections, so they stay free."""
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
    raise OSError(f"found fewer than {count} free ports between 12000 and 32000")


def processes_of_node(node: str, cluster: str, log: Path) -> set[int]:
    """Return the pids of a node's slurmd, its job steps, their descendants and orphans.

    A job step hides its environment behind its process title, but keeps the log file of its node
    open. A process of a job whose parents have ended still has the job's environment.
    """
    pids: set[int] = set()
    children: dict[int, set[int]] = {}
    marks = {f"SLURM_CLUSTER_NAME={cluster}".encode(), f"SLURMD_NODENAME={node}".encode()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, set()).add(int(process.name))
            is_slurm = (process / "comm").read_text().startswith("slurm")
            has_log = is_slurm and any(fd.readlink() == log for fd in process.glob("fd/*"))
            if has_log or marks <= set((process / "environ").read_bytes().split(b"\0")):
                pids.add(int(process.name))
        except OSError:
            continue  # the process has ended
    new = pids
    while new:
        new = {child for pid in new for child in children.get(pid, ())} - pids
        pids |= new
    return {pid for pid in pids if start_time(pid)}
