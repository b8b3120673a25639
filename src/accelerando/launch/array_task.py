"""What one task of a job array does: its run, or its runs side by side, a process each."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from submitit import JobEnvironment
from submitit.helpers import DelayedSubmission

from accelerando.entry import FAILURE
from accelerando.interruption import Interrupted, Interruption
from accelerando.launch.pool import Ended, Job, run_jobs
from accelerando.launch.todo import PRELOAD
from accelerando.launch.view import outcome
from accelerando.tracking.folder import ENDED, RunFolder


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
        except SystemExit as left:
            if isinstance(left.__cause__, Interrupted):
                _back_into_the_queue(signal.Signals[str(left.__cause__)])
            raise

    def _together(self) -> None:
        watch = _Log(len(self.jobs))
        with Interruption() as stop:
            run_jobs(self.jobs, workers=len(self.jobs), watch=watch, stop=stop, preload=PRELOAD)
        if stop.received is not None and watch.unended:
            _back_into_the_queue(stop.received)
        if watch.unended:
            sys.exit(FAILURE)


def _back_into_the_queue(received: signal.Signals) -> None:
    """Leave it to submitit where the signal is the one that it asked SLURM for."""
    if received.name == f"SIG{JobEnvironment.USR_SIG}":
        handler: Any = signal.getsignal(received)
        handler(received, None)


class _Log:
    """Says in the job's output what became of its runs."""

    def __init__(self, runs: int) -> None:
        self._runs, self._over, self.unended = runs, 0, 0

    def poll(self, running: Sequence[Job]) -> None: ...

    def ended(self, job: Job, how: Ended) -> None:
        status, message = outcome(job, how)
        self._over += 1
        self.unended += status not in ENDED
        print(f"{self._over}/{self._runs}  {status}  {job.name}  {message}", flush=True)
        print(f"  see {RunFolder(job.folder).output}", flush=True)
