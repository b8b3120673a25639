"""Runs as their folders and SLURM together tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accelerando.checks import UsageError
from accelerando.launch.slurm_queue import WAITS, SlurmJob, accounted_jobs, queued_jobs
from accelerando.runs.folder import Status
from accelerando.runs.listing import RunStatus, run_status
from accelerando.runs.slurm_record import read_slurm_record

SILENT = "SLURM does not answer"


def add_slurm_status(runs: Sequence[RunStatus]) -> list[RunStatus]:
    """The same runs, with what SLURM says of those that were submitted to it.

    A run's own files are believed where they can know better: SLURM is asked whether it waits, and
    why it ended where it could not say so itself.
    """
    runs = [_with_job(run) for run in runs]
    jobs = {run.job for run in runs if run.job and not run.status.is_final}
    if not jobs:
        return runs
    queued = queued_jobs(jobs)
    over = accounted_jobs(jobs - (queued or {}).keys())
    return [
        _joined(run, queued, over.get(run.job)) if run.job and not run.status.is_final else run
        for run in runs
    ]


def _with_job(run: RunStatus) -> RunStatus:
    try:
        word = read_slurm_record(run.path)
    except (UsageError, OSError) as error:
        return replace(run, status=Status.UNREADABLE, reason=str(error))
    return run if word is None else replace(run, job=word.job)


def _joined(run: RunStatus, queued: dict[str, SlurmJob] | None, over: SlurmJob | None) -> RunStatus:
    if queued is None:
        status = Status.SUBMITTED if run.state is None else run.status
        return replace(run, status=status, reason="" if run.status == Status.RUNNING else SILENT)
    now = queued.get(run.job)
    run = replace(run, job_active=now is not None)
    if now is not None and now.state in WAITS:
        waiting = Status.PENDING if run.state is None else Status.REQUEUED
        return replace(run, status=waiting, reason=now.reason)
    if run.status == Status.RUNNING:
        return run
    if now is not None:
        # what it says may be of this start of the job, whose other runs go on, or of an earlier one
        begun = run.state is not None and run.state.updated >= now.started
        status = run.status if begun else Status.STARTING
        return replace(run, status=status, reason=f"on {now.nodes}")
    last = run_status(run.path)  # it may have ended since it was looked at
    if last.status.is_final:
        return replace(last, job=run.job)
    reason = "no longer in SLURM's queue" if over is None else over.state
    # a run that could say what happened did; of the others SLURM knows why they are gone
    status = Status.FAILED if run.status == Status.LOST else run.status
    return replace(run, status=status, reason=reason)
