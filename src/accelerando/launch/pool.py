"""Many runs on one machine: a fresh process for each, so many at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any, Protocol

import cloudpickle

from accelerando.interruption import SignalHandler, signals_blocked, unblock_signals

POLL = 0.25
"""Seconds between two looks at the running jobs."""


@dataclass
class Job:
    """One run of a sweep: what to call, and the folder that its output goes to."""

    name: str
    folder: Path
    call: Callable[[], Any]


@dataclass
class JobResult:
    """How a job ended."""

    code: int
    """Exit code; negative: the signal that ended it."""
    value: Any = None
    """What it returned, small enough for a pipe (64 KiB)."""
    started: float = field(default=0.0, compare=False)
    """When its process was started, as ``time.time`` tells it."""
    asked: bool = field(default=False, compare=False)
    """Whether it had been asked to stop."""


class Watch(Protocol):
    """Told what happens to the jobs."""

    def poll(self, running: Sequence[Job]) -> None: ...

    def ended(self, job: Job, how: JobResult) -> None: ...


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int,
    watch: Watch,
    stop: SignalHandler,
    preload: Sequence[str] = (),
) -> list[JobResult | None]:
    """Run every job in a process of its own and return how each ended, in order.

    Processes are forked from a server that has imported ``preload`` once. A job that fails or is
    killed does not touch the others. A signal that ``stop`` receives, now or before, asks the
    running jobs to stop; no other is started, those not started give None.
    """
    context = _server(preload)
    waiting = list(enumerate(jobs))[::-1]
    running: dict[int, Running] = {}
    results: list[JobResult | None] = [None] * len(jobs)
    try:
        while running or (waiting and not stop.received):
            while waiting and len(running) < workers and not stop.received:
                started = _start(context, *waiting.pop())
                running[started.process.sentinel] = started
            if stop.received:
                for job in running.values():
                    job.ask_to_stop()
            for sentinel in wait(list(running), timeout=POLL):
                assert isinstance(sentinel, int)
                job = running.pop(sentinel)
                results[job.number] = ended = job.collect()
                watch.ended(jobs[job.number], ended)
            watch.poll([jobs[job.number] for job in running.values()])
    finally:
        for job in running.values():
            job.process.kill()
    return results


@dataclass
class Running:
    """A job in its process."""

    number: int
    process: Any
    results: Connection
    started: float
    asked: bool = False

    def ask_to_stop(self) -> None:
        if not self.asked:
            self.asked = True
            self.process.terminate()

    def collect(self) -> JobResult:
        """What became of the job, once its process has ended."""
        value = None
        if self.results.poll():
            with suppress(EOFError):  # it ended without a word: its exit code says how
                value = self.results.recv()
        self.process.join()
        ended = JobResult(self.process.exitcode, value, self.started, self.asked)
        self.process.close()
        self.results.close()
        return ended


def _server(preload: Sequence[str]) -> Any:
    """A server to fork jobs from; signals are the parent's to act on, not the server's.

    SLURM and terminals signal every process there is. A server that ends takes all word of the
    jobs with it: they would seem to have ended too.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    if threading.current_thread() is threading.main_thread():
        with signals_blocked():
            resource_tracker.ensure_running()
        with signals_blocked():
            ensure_running()
    return context


def _start(context: Any, number: int, job: Job) -> Running:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(cloudpickle.dumps(job), sender))
    started = time.time()
    process.start()
    sender.close()
    return Running(number, process, receiver, started)


def _work(content: bytes, sender: Connection) -> None:
    """In the job's process: everything it prints goes to the run's folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: until the run listens to it
    unblock_signals()  # the server blocks them
    job: Job = cloudpickle.loads(content)
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "output.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.flush()
    sender.send(job.call())
