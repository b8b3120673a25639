"""A process pool on this machine: each job runs in a new process, a few at the same time."""

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

UPDATE_INTERVAL = 0.25
"""Seconds between two updates of the observer."""


@dataclass
class Job:
    """One run of a sweep: the function to call, and the folder for its output."""

    name: str
    folder: Path
    call: Callable[[], Any]


@dataclass
class JobResult:
    """How the process of a job ended.

    Args:
        exit_code: negative if a signal killed the process.
        value: return value of the job; its pickle must fit into a pipe (64 KiB).
        started: start time in seconds since 1970.
        stop_requested: whether the pool had asked the job to stop.
    """

    exit_code: int
    value: Any = None
    started: float = field(default=0.0, compare=False)
    stop_requested: bool = field(default=False, compare=False)


class JobObserver(Protocol):
    """Receives the progress of a pool."""

    def update(self, running: Sequence[Job]) -> None:
        """Called every ``UPDATE_INTERVAL`` seconds."""

    def finished(self, job: Job, result: JobResult) -> None:
        """Called once for each job that was started."""


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int,
    signals: SignalHandler,
    observer: JobObserver | None = None,
    preload: Sequence[str] = (),
) -> list[JobResult | None]:
    """Run each job in a process of its own and return the results in order.

    A job that fails or is killed does not affect the others. Once ``signals`` has received a
    signal, running jobs are asked to stop and no more are started.

    Args:
        jobs: the jobs, started in order.
        workers: maximum number of concurrent jobs.
        signals: an active handler.
        observer: receives the progress.
        preload: modules that the forkserver imports once, for all processes.

    Returns:
        A result for each job; None for a job that was not started.
    """
    context = _forkserver(preload)
    waiting = list(enumerate(jobs))[::-1]
    running: dict[int, _RunningJob] = {}
    results: list[JobResult | None] = [None] * len(jobs)
    try:
        while running or (waiting and not signals.received):
            while waiting and len(running) < workers and not signals.received:
                started = _start(context, *waiting.pop())
                running[started.process.sentinel] = started
            if signals.received:
                for job in running.values():
                    job.request_stop()
            for sentinel in wait(list(running), timeout=UPDATE_INTERVAL):
                assert isinstance(sentinel, int)
                job = running.pop(sentinel)
                results[job.index] = result = job.collect()
                if observer is not None:
                    observer.finished(jobs[job.index], result)
            if observer is not None:
                observer.update([jobs[job.index] for job in running.values()])
    finally:
        for job in running.values():
            job.process.kill()
    return results


@dataclass
class _RunningJob:
    index: int
    process: Any
    results: Connection
    started: float
    stop_requested: bool = False

    def request_stop(self) -> None:
        if not self.stop_requested:
            self.stop_requested = True
            self.process.terminate()

    def collect(self) -> JobResult:
        """Return the result of the job after its process has ended."""
        value = None
        with suppress(EOFError):  # the process ended without returning a value
            value = self.results.recv() if self.results.poll() else None
        self.process.join()
        result = JobResult(self.process.exitcode, value, self.started, self.stop_requested)
        self.process.close()
        self.results.close()
        return result


def _forkserver(preload: Sequence[str]) -> Any:
    """Return a multiprocessing context whose server does not react to ``SIGNALS``.

    SLURM and terminals signal every process. If the server ended, the pool would lose track of its
    jobs and count all of them as ended.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    if threading.current_thread() is threading.main_thread():
        with signals_blocked():
            resource_tracker.ensure_running()
        with signals_blocked():
            ensure_running()
    return context


def _start(context: Any, index: int, job: Job) -> _RunningJob:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_job, args=(cloudpickle.dumps(job), sender))
    started = time.time()
    process.start()
    sender.close()
    return _RunningJob(index, process, receiver, started)


def _run_job(pickled: bytes, sender: Connection) -> None:
    """In the new process: call the job with its output redirected to the run's folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal; the run installs its handler
    unblock_signals()  # the server blocks them
    job: Job = cloudpickle.loads(pickled)
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "output.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.flush()
    sender.send(job.call())
