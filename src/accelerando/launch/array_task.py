"""What one task of a job array does: its run, or its runs side by side, a process each."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from submitit import JobEnvironment
from submitit.helpers import DelayedSubmission

from accelerando.entry import EXIT_FAILURE
from accelerando.interruption import Interrupted, SignalHandler
from accelerando.launch.planning import PRELOAD
from accelerando.launch.pool import Job, JobResult, run_jobs
from accelerando.launch.sweep_progress import outcome
from accelerando.runs.folder import RunFolder

PAUSES = (5, 10, 20, 0)
"""Seconds after each attempt to put a job back; there are two minutes before its time is up."""


@dataclass(frozen=True)
class ArrayTask:
    """Called by submitit on the node, and again after every requeue.

    A run that fails makes it fail, so that SLURM says FAILED. At the signal that announces a time
    limit (or a preemption, where the cluster announces it) the runs have saved themselves; then
    submitit's own handler is called, which puts the job back into the queue, or fails it where it
    has had its number of restarts. At SIGTERM nothing of the kind is done: whoever sent it has put
    the job back (a preemption), or does not want it back (``scancel``).

    Args:
        jobs: one of them is called in this process, as every task of a run on several GPUs is.
    """

    jobs: Sequence[Job]

    def __call__(self) -> None:
        if len(self.jobs) == 1:
            self._alone(self.jobs[0])
        else:
            self._together()

    def checkpoint(self) -> DelayedSubmission:
        """What is called after the job was put back; its name is submitit's."""
        return DelayedSubmission(self)

    def _alone(self, job: Job) -> None:
        try:
            job.call()
        except Interrupted as interrupt:
            if interrupt.received is not None:
                _back_into_the_queue(interrupt.received)
            raise

    def _together(self) -> None:
        watch = _Log(len(self.jobs))
        with SignalHandler() as stop:
            run_jobs(self.jobs, workers=len(self.jobs), watch=watch, stop=stop, preload=PRELOAD)
        if stop.received is not None and watch.unended:
            _back_into_the_queue(stop.received)
        if watch.unended:
            sys.exit(EXIT_FAILURE)


def _back_into_the_queue(received: signal.Signals) -> None:
    """Leave it to submitit where the signal is the one that it asked SLURM for.

    Its handler ends this process, or leaves that to the first process of the run. It fails where
    SLURM's controller does not answer, as while that is started anew.
    """
    if received.name != f"SIG{JobEnvironment.USR_SIG}":
        return
    handler: Any = signal.getsignal(received)
    with SignalHandler() as stop:
        for check_interrupt in PAUSES:
            try:
                handler(received, None)
                return
            except (OSError, subprocess.SubprocessError) as error:
                print(f"not put back into SLURM's queue: {error}", file=sys.stderr, flush=True)
            time.sleep(check_interrupt)
            if signal.SIGTERM in stop.signals:  # cancelled meanwhile
                return
    print("the runs are saved: the command that submitted them goes on with them", file=sys.stderr)


class _Log:
    """Says in the job's output what became of its runs."""

    def __init__(self, runs: int) -> None:
        self._runs, self._over, self.unended = runs, 0, 0

    def poll(self, running: Sequence[Job]) -> None: ...

    def ended(self, job: Job, how: JobResult) -> None:
        status, message = outcome(job, how)
        self._over += 1
        self.unended += not status.is_final
        print(f"{self._over}/{self._runs}  {status}  {job.name}  {message}", flush=True)
        print(f"  see {RunFolder(job.folder).output}", flush=True)
