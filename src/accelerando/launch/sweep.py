"""A sweep on this machine: check every run, skip those that ended, run the rest."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Sequence

import joblib
from rich.console import Console

from accelerando.checks import UsageError, whole
from accelerando.interruption import EXIT_INTERRUPTED, SignalHandler
from accelerando.launch.planning import (
    PRELOAD,
    PlannedRun,
    check_runs,
    group_into_jobs,
    plan_notes,
    unfinished_runs,
)
from accelerando.launch.pool import Job, run_jobs
from accelerando.launch.sweep_progress import SweepProgress, outcome
from accelerando.runs.folder import RunFolder, Status
from accelerando.terminal import make_console


def run_sweep(runs: Sequence[PlannedRun], workers: int | None) -> list[float | None]:
    """Run what has not ended yet and say how it went.

    Args:
        runs: the runs of the sweep; of two that are the same run one is trained.
        workers: runs at a time; None: as many as the cores allow.

    Returns:
        The minimum full gradient norm of each run, in order.

    Raises:
        UsageError: a setting of any run is out of range, before anything was started.
        SystemExit: a run failed, or the sweep was interrupted; it was said.
    """
    console = make_console()
    if workers is not None:
        try:
            whole("hydra.launcher.workers", workers, 1)
        except ValueError as error:
            raise UsageError(str(error)) from error
    notes, jobs = plan_notes(runs), group_into_jobs(runs)
    unique = list({job.folder: job for job in jobs}.values())
    todo = unfinished_runs(unique, console)
    if todo:
        with console.status("checking models and data"):
            check_runs([run.settings for run in runs], devices=True)
    for note in notes:
        console.print(f"note: {note}")
    cores = max(r.settings.hardware.threads * r.settings.hardware.processes for r in runs)
    with SweepProgress(console, len(todo)) as view, SignalHandler() as stop:
        ended = run_jobs(
            todo,
            workers=workers or max(1, joblib.cpu_count() // cores),
            watch=view,
            stop=stop,
            preload=PRELOAD,
        )
    how = {job.folder: end for job, end in zip(todo, ended, strict=True)}
    outcomes = [(job, *outcome(job, how.get(job.folder))) for job in unique]
    conclude(outcomes, console, root=runs[0].settings.root)
    return lowest_norms(jobs)


def lowest_norms(jobs: Sequence[Job]) -> list[float | None]:
    """The minimum full gradient norm of each job's run, None where there is none."""
    states = [RunFolder(job.folder).readable_state() for job in jobs]
    return [None if state is None else state.full_gradient_norm for state in states]


def conclude(outcomes: Sequence[tuple[Job, Status, str]], console: Console, *, root: str) -> None:
    """Say how a sweep went: jobs, what became of their runs, a few words on each.

    Raises:
        SystemExit: a run did not end.
    """
    counts = Counter(status for _, status, _ in outcomes)
    console.print(", ".join(f"{number} {status}" for status, number in counts.items()))
    for job, status, message in outcomes:
        if status == Status.FAILED:
            console.print(f"failed: {job.name}: {message}")
            console.print(f"  see      accelerando logs {shlex.quote(str(job.folder))}")
    unended = sum(not status.is_final for _, status, _ in outcomes)
    if unended:
        console.print(f"the same command runs just the {unended} that did not end:")
        console.print(f"  again    {shlex.join(['python', *sys.argv])}")
        sys.exit(1 if counts[Status.FAILED] else EXIT_INTERRUPTED)
    for experiment in sorted({job.folder.parents[1] for job, _, _ in outcomes}):
        console.print(f"compare  accelerando compare {shlex.quote(str(experiment))}")
    if any(_unsent(job) for job, _, _ in outcomes):
        console.print(f"W&B      accelerando sync {shlex.quote(root)}")


def _unsent(job: Job) -> bool:
    """Whether the run has rows that were written offline, and not sent since."""
    files = job.folder.glob("wandb/offline-run-*/run-*.wandb")
    return any(not file.with_suffix(".wandb.synced").exists() for file in files)
