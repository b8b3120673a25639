"""One task of a SLURM job array: it trains one run, or several in parallel processes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from submitit.helpers import DelayedSubmission

from accelerando.entry import EXIT_FAILURE
from accelerando.interruption import Interrupted, SignalHandler
from accelerando.launch.planning import PRELOAD
from accelerando.launch.pool import Job, JobResult, run_jobs
from accelerando.launch.requeue import requeue
from accelerando.launch.submitit_adapter import REQUEUE_SIGNAL, requeue_handler
from accelerando.launch.sweep_progress import job_outcome
from accelerando.runs.folder import RunFolder


@dataclass(frozen=True)
class ArrayTask:
    """Callable that submitit runs on the node, and again after each requeue.

    If a run fails, the task fails, so that SLURM reports FAILED. After the signal that announces
    the time limit (or a preemption, if the cluster announces it) the runs save themselves, and
    submitit's handler requeues the job, or fails it once it has been requeued ``max_num_timeout``
    times. After SIGTERM the task does not requeue the job: either SLURM does (preemption), or the
    job was cancelled (``scancel``).

    Args:
        jobs: a single job is called in this process, since each task of a run on several GPUs is
            one of the run's processes.
    """

    jobs: Sequence[Job]

    def __call__(self) -> None:
        if len(self.jobs) == 1:
            self._run_here(self.jobs[0])
        else:
            self._run_in_pool()

    def checkpoint(self) -> DelayedSubmission:
        """Return what submitit runs after a requeue; submitit looks this method up by name."""
        return DelayedSubmission(self)

    def _run_here(self, job: Job) -> None:
        try:
            job.call()
        except Interrupted as interrupt:
            _requeue_after(interrupt.received)
            raise

    def _run_in_pool(self) -> None:
        log = _JobLog(len(self.jobs))
        with SignalHandler() as signals:
            run_jobs(
                self.jobs,
                workers=len(self.jobs),
                signals=signals,
                observer=log,
                preload=PRELOAD,
            )
        if log.unfinished:
            _requeue_after(signals.received)
            sys.exit(EXIT_FAILURE)


def _requeue_after(received: signal.Signals | None) -> None:
    """Let submitit requeue the job if it received the signal that submitit requested from SLURM."""
    if received == REQUEUE_SIGNAL:
        requeue(requeue_handler())


class _JobLog:
    """Prints the outcome of each run to the output of the SLURM job."""

    def __init__(self, runs: int) -> None:
        self._runs, self._finished, self.unfinished = runs, 0, 0

    def update(self, running: Sequence[Job]) -> None: ...

    def finished(self, job: Job, result: JobResult) -> None:
        outcome = job_outcome(job, result)
        self._finished += 1
        self.unfinished += not outcome.status.is_final
        print(f"{self._finished}/{self._runs}  {outcome.status}  {job.name}  {outcome.message}")
        print(f"  see {RunFolder(job.folder).output}", flush=True)
