"""Runs as their folders and SLURM together tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accelerando.checks import UsageError
from accelerando.launch.queue import WAITS, SlurmJob, accounted, in_queue
from accelerando.tracking.folder import ENDED, FAILED, RUNNING
from accelerando.tracking.overview import LOST, UNREADABLE, Seen, seen
from accelerando.tracking.submitted import submitted

SUBMITTED, PENDING, REQUEUED, STARTING = "submitted", "pending", "requeued", "starting"
"""SLURM does not say more; waits for its first start; waits to go on; its job runs, not yet it."""
SILENT = "SLURM does not answer"


def with_jobs(runs: Sequence[Seen]) -> list[Seen]:
    """The same runs, with what SLURM says of those that were submitted to it.

    A run's own files are believed where they can know better: SLURM is asked whether it waits, and
    why it ended where it could not say so itself.
    """
    runs = [_with_job(run) for run in runs]
    jobs = {run.job for run in runs if run.job and run.status not in ENDED}
    if not jobs:
        return runs
    queued = in_queue(jobs)
    over = accounted(jobs - (queued or {}).keys())
    return [
        _joined(run, queued, over.get(run.job)) if run.job and run.status not in ENDED else run
        for run in runs
    ]


def _with_job(run: Seen) -> Seen:
    try:
        word = submitted(run.path)
    except (UsageError, OSError) as error:
        return replace(run, status=UNREADABLE, reason=str(error))
    return run if word is None else replace(run, job=word.job)


def _joined(run: Seen, queued: dict[str, SlurmJob] | None, over: SlurmJob | None) -> Seen:
    if queued is None:
        status = SUBMITTED if run.state is None else run.status
        return replace(run, status=status, reason="" if run.status == RUNNING else SILENT)
    now = queued.get(run.job)
    run = replace(run, job_lives=now is not None)
    if now is not None and now.state in WAITS:
        return replace(run, status=PENDING if run.state is None else REQUEUED, reason=now.reason)
    if run.status == RUNNING:
        return run
    if now is not None:
        # what it says may be of this start of the job, whose other runs go on, or of an earlier one
        begun = run.state is not None and run.state.updated >= now.started
        return replace(run, status=run.status if begun else STARTING, reason=f"on {now.nodes}")
    last = seen(run.path)  # it may have ended since it was looked at
    if last.status in ENDED:
        return replace(last, job=run.job)
    reason = "no longer in SLURM's queue" if over is None else over.state
    # a run that could say what happened did; of the others SLURM knows why they are gone
    return replace(run, status=FAILED if run.status == LOST else run.status, reason=reason)
