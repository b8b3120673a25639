"""Start, or join, the processes that compute one run together.

The main process (rank 0) checks the run, locks its folder and writes all files. The other ranks
train and measure with it; they are started by torchrun or srun, or spawned by the main process.
"""

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
from accelerando.training.loop import Diverged, Loop
from accelerando.training.out_of_memory import OutOfMemory
from accelerando.training.task import Task, prepare_task

_READY = b"ready"
"""Sent to the main process by a spawned rank that has started."""
_TRAIN, _EXIT = b"train", b""
"""Commands of the main process to the other ranks."""
_EXIT_TIMEOUT_SECONDS = 10.0
"""Time that spawned ranks have to exit before they are killed."""


@contextmanager
def launched_team(processes: int) -> Iterator[Team]:
    """Join the process group that torchrun or srun started this process in, if any.

    Raises:
        UsageError: the number of processes differs from ``processes``, the setting.
    """
    _adopt_slurm_variables()
    world_size = int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ else 1
    if world_size == 1:
        yield SINGLE_PROCESS
        return
    if world_size != processes:
        raise UsageError(
            f"{world_size} processes were started, but hardware.processes is {processes}: "
            "use the same number for both"
        )
    dist.init_process_group(_backend())
    try:
        yield Team(dist.get_rank(), world_size)
    finally:
        dist.destroy_process_group()


def _adopt_slurm_variables() -> None:
    """If srun started several tasks, set the environment variables that torchrun would set."""
    env = os.environ
    # read the variable of the job step: a batch script sees the job's tasks but is one process
    tasks = int(env.get("SLURM_STEP_NUM_TASKS", 1))
    if "RANK" in env or "SLURM_PROCID" not in env or tasks == 1:
        return
    if int(env.get("SLURM_STEP_NUM_NODES", 1)) == 1:
        address = "127.0.0.1"
    else:
        address = _first_address(env["SLURM_STEP_NODELIST"])
    env |= {
        "RANK": env["SLURM_PROCID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_RANK": env.get("SLURM_LOCALID", "0"),
        "MASTER_ADDR": address,
        # the same in all tasks of a job, different for each job on a node
        "MASTER_PORT": str(20000 + int(env["SLURM_JOB_ID"]) % 10000),
    }


def _first_address(nodes: str) -> str:
    """Return the address of the first node in a SLURM node list such as ``n[1-4]``.

    Falls back to the node's name if SLURM cannot be asked, for example inside a container.
    """
    first = re.sub(r"\[([^],-]+)[^]]*\]", r"\1", nodes).partition(",")[0]
    with suppress(OSError, subprocess.SubprocessError):
        command = ["scontrol", "-o", "show", "node", first]
        result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        node = dict(field.split("=", 1) for field in result.stdout.split() if "=" in field)
        return node.get("NodeAddr", first)
    return first


def local_rank() -> int:
    """Return the number of this process among those of the run on this machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def dismiss_other_ranks(team: Team) -> None:
    """Tell ranks that torchrun or srun started to exit: there is nothing to train."""
    team.broadcast_bytes(_EXIT)


@contextmanager
def spawn_other_ranks(settings: RunSettings, team: Team) -> Iterator[Team]:
    """Spawn the other ranks on this machine, unless they were started already.

    Raises:
        UsageError: a rank could not start (its own output says why), or there are too few GPUs.
    """
    processes = settings.hardware.processes
    if processes == team.world_size:
        yield team
        return
    if settings.hardware.device == "cuda" and (gpus := torch.cuda.device_count()) < processes:
        raise UsageError(
            f"hardware.processes={processes} needs one GPU per process, and this machine has "
            f"{gpus}: set hardware.processes={gpus} or fewer, or start the processes on several "
            "machines with torchrun or srun"
        )
    store = TCPStore("127.0.0.1", 0, processes, is_master=True, wait_for_workers=False)
    spawned = [_spawn(settings, Team(rank, processes), store.port) for rank in range(1, processes)]
    try:
        for _, connection in spawned:
            with suppress(EOFError):
                if connection.recv_bytes() == _READY:
                    continue
            raise UsageError(
                f"one of {processes} processes exited before the run started: see its output"
            )
        dist.init_process_group(_backend(), store=store, rank=0, world_size=processes)
        yield Team(0, processes)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for process, _ in spawned:
            process.join(_EXIT_TIMEOUT_SECONDS)
            process.kill()


def _spawn(settings: RunSettings, team: Team, port: int) -> tuple[Any, Connection]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_spawned, args=(settings, team, port, sender))
    # only the main process acts on signals; it tells the others to stop
    with signals_blocked():
        ensure_running()
    with signals_blocked():
        process.start()
    sender.close()
    return process, receiver


def _spawned(settings: RunSettings, team: Team, port: int, sender: Connection) -> None:
    """Entry point of a spawned process."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    unblock_signals()
    threading.Thread(target=_exit_with_main_process, daemon=True).start()
    store = TCPStore("127.0.0.1", port, team.world_size, is_master=False)
    sender.send_bytes(_READY)
    dist.init_process_group(_backend(), store=store, rank=team.rank, world_size=team.world_size)
    run_other_rank(settings, team, SignalHandler(), team.rank)
    dist.destroy_process_group()


def _exit_with_main_process() -> None:
    """Exit when the main process is gone, even while waiting for it in a collective."""
    main_process = multiprocessing.parent_process()
    assert main_process is not None
    main_process.join()
    os._exit(1)


def run_other_rank(
    settings: RunSettings, team: Team, signals: SignalHandler, local_rank: int
) -> None:
    """Do the work of a rank above 0: train and measure with the main process, write no files."""
    try:
        if team.broadcast_bytes(_EXIT) != _TRAIN:
            return
        task = _prepare_task_together(settings, team, local_rank)
        row_interval, _, content = team.broadcast_bytes(b"").partition(b"\n")
        task = replace(task, settings=settings.with_row_interval(int(row_interval)))
        start = Checkpoint.read(io.BytesIO(content), task.device) if content else None
        Loop(task, team, RunFolder(run_folder(settings)), None, start, signals).run()
    except (Interrupted, Diverged):
        return  # the main process raised the same, and reports it
    except ProcessLost as error:
        print(f"process {team.rank} exits: {error}", file=sys.stderr)
        sys.exit(1)
    except OutOfMemory as error:
        print(f"error in process {team.rank}: out of memory: {error}", file=sys.stderr)
        # the main process notices only that this one is gone: store the reason
        store = default_store()
        store.set(_OUT_OF_MEMORY, json.dumps([str(error), error.measuring]))
        store.get(_OUT_OF_MEMORY)  # set() returns before the value has arrived
        sys.exit(1)


def _prepare_task_together(settings: RunSettings, team: Team, local_rank: int) -> Task:
    """Prepare the task of a rank above 0, and tell the main process whether that succeeded."""
    try:
        task = prepare_task(settings, build_plan(settings), local_rank)
    except UsageError as error:
        print(f"error in process {team.rank}: {error}", file=sys.stderr)
        team.any(True)
        sys.exit(1)
    team.any(False)
    return task


_OUT_OF_MEMORY = "out of memory"


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Raise OutOfMemory in place of ProcessLost if that is why the other process exited."""
    try:
        yield
    except ProcessLost as error:
        store = default_store()
        if not store.check([_OUT_OF_MEMORY]):
            raise
        reason, measuring = json.loads(store.get(_OUT_OF_MEMORY))
        raise OutOfMemory(f"{reason}, in another process", measuring=measuring) from error


def start_other_ranks(team: Team, start: Checkpoint | None, row_interval: int) -> None:
    """Make the other ranks of a team train from the same checkpoint, or from the beginning.

    ``row_interval`` is the number of steps between two training rows, at which all check the loss.

    Raises:
        UsageError: a rank could not start.
    """
    team.broadcast_bytes(_TRAIN)
    if team.any(False):
        raise UsageError("a process of the run could not start: see its output")
    if team.world_size > 1:
        content = io.BytesIO()
        if start is not None:
            start.write(content)
        team.broadcast_bytes(b"%d\n" % row_interval + content.getvalue())


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
