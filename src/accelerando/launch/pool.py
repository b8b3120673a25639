"""Many runs on one machine: a fresh process for each, so many at a time."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import cloudpickle

from accelerando.interruption import Interruption

POLL = 0.25
"""Seconds between two looks at the running jobs."""


@dataclass
class Job:
    """One run of a sweep: what to call, and the folder that its output goes to."""

    name: str
    folder: Path
    call: Callable[[], Any]


@dataclass
class Ended:
    """How a job ended: its exit code (negative: the signal that ended it), and what it returned."""

    code: int
    value: Any = None


class Watch(Protocol):
    """Told what happens to the jobs."""

    def poll(self, running: Sequence[Job]) -> None: ...

    def ended(self, job: Job, how: Ended) -> None: ...


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_jobs(
    jobs: Sequence[Job], *, workers: int, watch: Watch, preload: Sequence[str] = ()
) -> list[Ended | None]:
    """Run every job in a process of its own and return how each ended, in order.

    Processes are forked from a server that has imported ``preload`` once. A job that fails or is
    killed does not touch the others. SIGINT or SIGTERM asks the running jobs to stop, starts no
    other, and waits; a second SIGINT ends at once. Jobs that were not started give None.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *preload])
    waiting = list(enumerate(jobs))[::-1]
    running: dict[int, tuple[int, Any, Connection]] = {}
    results: list[Ended | None] = [None] * len(jobs)
    asked = False
    try:
        with Interruption() as stop:
            while running or (waiting and not stop.received):
                while waiting and len(running) < workers and not stop.received:
                    number, job = waiting.pop()
                    process, results_from = _start(context, job)
                    running[process.sentinel] = number, process, results_from
                if stop.received and not asked:
                    asked = True
                    for _, process, _ in running.values():
                        process.terminate()
                for sentinel in wait(list(running), timeout=POLL):
                    assert isinstance(sentinel, int)
                    number, process, results_from = running.pop(sentinel)
                    results[number] = ended = _collect(process, results_from)
                    watch.ended(jobs[number], ended)
                watch.poll([jobs[number] for number, _, _ in running.values()])
    finally:
        for _, process, _ in running.values():
            process.kill()
    return results


def _start(context: Any, job: Job) -> tuple[Any, Connection]:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(cloudpickle.dumps(job), sender))
    process.start()
    sender.close()
    return process, receiver


def _collect(process: Any, results_from: Connection) -> Ended:
    value = None
    if results_from.poll():
        with suppress(EOFError):  # it ended without a word: its exit code says how
            value = results_from.recv()
    process.join()
    code = process.exitcode
    process.close()
    results_from.close()
    return Ended(code, value)


def _work(content: bytes, sender: Connection) -> None:
    """In the job's process: everything it prints goes to the run's folder."""
    job: Job = cloudpickle.loads(content)
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "output.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.flush()
    sender.send(job.call())
