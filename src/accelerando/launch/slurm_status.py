"""Runs as their folders and SLURM together tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accelerando.checks import UsageError
from accelerando.launch.slurm_queue import WAITS, SlurmJob, accounted_jobs, queued_jobs
from accelerando.runs.folder import ENDED, FAILED, RUNNING
from accelerando.runs.listing import LOST, UNREADABLE, RunStatus, run_status
from accelerando.runs.slurm_record import read_slurm_record

SUBMITTED, PENDING, REQUEUED, STARTING = "submitted", "pending", "requeued", "starting"
"""SLURM does not say more; waits for its first start; waits to go on; its job runs, not yet it."""
SILENT = "SLURM does not answer"


def add_slurm_status(runs: Sequence[RunStatus]) -> list[RunStatus]:
    """The same runs, with what SLURM says of those that were submitted to it.

    A run's own files are believed where they can know better: SLURM is asked whether it waits, and
    why it ended where it could not say so itself.
    """
    runs = [_with_job(run) for run in runs]
    jobs = {run.job for run in runs if run.job and run.status not in ENDED}
    if not jobs:
        return runs
    queued = queued_jobs(jobs)
    over = accounted_jobs(jobs - (queued or {}).keys())
    return [
        _joined(run, queued, over.get(run.job)) if run.job and run.status not in ENDED else run
        for run in runs
    ]


def _with_job(run: RunStatus) -> RunStatus:
    try:
        word = read_slurm_record(run.path)
    except (UsageError, OSError) as error:
        return replace(run, status=UNREADABLE, reason=str(error))
    return run if word is None else replace(run, job=word.job)


def _joined(run: RunStatus, queued: dict[str, SlurmJob] | None, over: SlurmJob | None) -> RunStatus:
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
    last = run_status(run.path)  # it may have ended since it was looked at
    if last.status in ENDED:
        return replace(last, job=run.job)
    reason = "no longer in SLURM's queue" if over is None else over.state
    # a run that could say what happened did; of the others SLURM knows why they are gone
    return replace(run, status=FAILED if run.status == LOST else run.status, reason=reason)
