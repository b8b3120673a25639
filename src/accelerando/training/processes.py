"""Start, or join, the processes that compute one run together."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.resource_tracker import ensure_running
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from accelerando.build import build_plan
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.distributed import SINGLE_PROCESS, ProcessLost, Team
from accelerando.identity import run_folder
from accelerando.interruption import (
    SIGNALS,
    Interrupted,
    SignalHandler,
    signals_blocked,
    unblock_signals,
)
from accelerando.runs.folder import RunFolder
from accelerando.torch_adapter import default_store
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.loop import Diverged
from accelerando.training.out_of_memory import OutOfMemory
from accelerando.training.task import prepare_task

READY, TRAIN, LEAVE = b"ready", b"train", b""
PATIENCE = 10.0
"""Seconds that followers are given to leave by themselves."""


@contextmanager
def external_team(processes: int) -> Iterator[Team]:
    """The team in which torchrun or srun has started this process; alone where neither has.

    Raises:
        UsageError: as many processes were started as the settings do not say.
    """
    _from_slurm()
    world_size = int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ else 1
    if world_size == 1:
        yield SINGLE_PROCESS
        return
    if world_size != processes:
        raise UsageError(
            f"{world_size} processes were started, hardware.processes says {processes}: make them agree"
        )
    dist.init_process_group(_backend())
    try:
        yield Team(dist.get_rank(), world_size)
    finally:
        dist.destroy_process_group()


def _from_slurm() -> None:
    """Where srun has started a task for each process, say so as torchrun does."""
    here = os.environ
    # of this step: a job's own script is told the number of tasks of the job, and is alone
    tasks = int(here.get("SLURM_STEP_NUM_TASKS", 1))
    if "RANK" in here or "SLURM_PROCID" not in here or tasks == 1:
        return
    if int(here.get("SLURM_STEP_NUM_NODES", 1)) == 1:
        first = "127.0.0.1"
    else:
        first = _first_address(here["SLURM_STEP_NODELIST"])
    here |= {
        "RANK": here["SLURM_PROCID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_RANK": here.get("SLURM_LOCALID", "0"),
        "MASTER_ADDR": first,
        # the same for all tasks, and another for each job of a node
        "MASTER_PORT": str(20000 + int(here["SLURM_JOB_ID"]) % 10000),
    }


def _first_address(nodes: str) -> str:
    """Where SLURM itself reaches the first of ``nodes``, as it writes them: n[1-4].

    By its name where SLURM does not say, as inside of a container without its programs.
    """
    first = re.sub(r"\[([^],-]+)[^]]*\]", r"\1", nodes).partition(",")[0]
    with suppress(OSError, subprocess.SubprocessError):
        command = ["scontrol", "-o", "show", "node", first]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        node = dict(word.split("=", 1) for word in answer.stdout.split() if "=" in word)
        return node.get("NodeAddr", first)
    return first


def local_rank() -> int:
    """Which process of this machine's this is."""
    return int(os.environ.get("LOCAL_RANK", 0))


@contextmanager
def with_followers(settings: RunSettings, team: Team) -> Iterator[Team]:
    """Start the other processes of a run on this machine, if it has any and nothing did before.

    Raises:
        UsageError: one of them could not start; it has said why. Or there are not as many GPUs.
    """
    processes = settings.hardware.processes
    if processes == team.world_size:
        yield team
        return
    if settings.hardware.device == "cuda" and (gpus := torch.cuda.device_count()) < processes:
        raise UsageError(
            f"hardware.processes={processes} is a GPU for each, this machine shows {gpus}: "
            "set it to that, or start the processes by torchrun or srun on several machines"
        )
    store = TCPStore("127.0.0.1", 0, processes, is_master=True, wait_for_workers=False)
    followers = [
        _start(settings, Team(rank, processes), store.port) for rank in range(1, processes)
    ]
    try:
        for _, connection in followers:
            with suppress(EOFError):
                if connection.recv_bytes() == READY:
                    continue
            raise UsageError(f"one of {processes} processes ended before the run began")
        dist.init_process_group(_backend(), store=store, rank=0, world_size=processes)
        yield Team(0, processes)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for process, _ in followers:
            process.join(PATIENCE)
            process.kill()


def _start(settings: RunSettings, team: Team, port: int) -> tuple[Any, Connection]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_started, args=(settings, team, port, sender))
    # only the main process acts on signals; it tells the others to stop
    with signals_blocked():
        ensure_running()
    with signals_blocked():
        process.start()
    sender.close()
    return process, receiver


def _started(settings: RunSettings, team: Team, port: int, sender: Connection) -> None:
    """In a process that the leader has started."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    unblock_signals()
    threading.Thread(target=_leave_with_the_leader, daemon=True).start()
    store = TCPStore("127.0.0.1", port, team.world_size, is_master=False)
    sender.send_bytes(READY)
    dist.init_process_group(_backend(), store=store, rank=team.rank, world_size=team.world_size)
    follow(settings, team, SignalHandler(), team.rank)
    dist.destroy_process_group()


def _leave_with_the_leader() -> None:
    """End this process when the leader is gone, even while it waits for the leader."""
    leader = multiprocessing.parent_process()
    assert leader is not None
    leader.join()
    os._exit(1)


def follow(settings: RunSettings, team: Team, stop: SignalHandler, local_rank: int) -> None:
    """Do the part of a process that does not lead: train and measure, write nothing."""
    try:
        _follow(settings, team, stop, local_rank)
    except ProcessLost as error:
        print(f"process {team.rank} leaves: {error}", file=sys.stderr)
        sys.exit(1)


def _follow(settings: RunSettings, team: Team, stop: SignalHandler, local_rank: int) -> None:
    if team.broadcast_bytes(LEAVE) != TRAIN:
        return
    try:
        task = prepare_task(settings, build_plan(settings), local_rank)
    except UsageError as error:
        print(f"error in process {team.rank}: {error}", file=sys.stderr)
        team.any(True)
        sys.exit(1)
    team.any(False)
    row_interval = int(team.broadcast_bytes(b""))
    task = replace(task, settings=settings.with_row_interval(row_interval))
    content = team.broadcast_bytes(b"")
    start = Checkpoint.read(io.BytesIO(content), task.device) if content else None
    try:
        task.loop(team, RunFolder(run_folder(settings)), None, start, stop).run()
    except (Interrupted, Diverged):
        return  # so it is in the leader, which says it
    except OutOfMemory as error:
        print(f"error in process {team.rank}: out of memory: {error}", file=sys.stderr)
        _leave_word(error)
        sys.exit(1)


def _leave_word(error: OutOfMemory) -> None:
    """Say that this process ends for want of memory to who finds that it is gone."""
    store = default_store()
    store.set(_WORD, json.dumps([str(error), error.measuring]))
    store.get(_WORD)  # it was only sent: now it is there


_WORD = "out of memory"


@contextmanager
def stop_followers() -> Iterator[None]:
    """Within it a process that was lost for want of memory is told as that.

    Raises:
        OutOfMemory: in place of Lost.
    """
    try:
        yield
    except ProcessLost as error:
        store = default_store()
        if not store.check([_WORD]):
            raise
        reason, measuring = json.loads(store.get(_WORD))
        raise OutOfMemory(f"{reason}, in another process", measuring=measuring) from error


def lead(team: Team, start: Checkpoint | None, every: int) -> None:
    """Let the others of the team begin, from the same checkpoint.

    Args:
        team: the processes of the run.
        start: the checkpoint, if there is one.
        every: steps between two training rows, at which all see whether the loss is finite.

    Raises:
        UsageError: one of them cannot; it has said why.
    """
    team.broadcast_bytes(TRAIN)
    if team.any(False):
        raise UsageError("a process of the run could not begin: its own output says why")
    if team.world_size > 1:
        team.broadcast_bytes(b"%d" % every)
        content = io.BytesIO()
        if start is not None:
            start.write(content)
        team.broadcast_bytes(content.getvalue())


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
