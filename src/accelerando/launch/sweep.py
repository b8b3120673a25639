"""A sweep on this machine: check all runs, skip those that have ended, train the others."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Sequence

import joblib
from rich.console import Console

from accelerando.checks import UsageError, check_integer
from accelerando.interruption import EXIT_INTERRUPTED, SignalHandler
from accelerando.launch.planning import (
    PRELOAD,
    PlannedRun,
    check_runs,
    print_notes,
    unfinished_jobs,
)
from accelerando.launch.pool import Job, run_jobs
from accelerando.launch.sweep_progress import JobOutcome, SweepProgress, job_outcome
from accelerando.runs.folder import RunFolder, Status
from accelerando.terminal import make_console


def run_sweep(runs: Sequence[PlannedRun], workers: int | None) -> list[float | None]:
    """Train the runs that have not ended yet, duplicates once, and print a summary.

    At most ``workers`` runs are trained at the same time; None: as many as the cores allow. Return
    the minimum full gradient norm of each run, in order.

    Raises:
        UsageError: a setting of a run is invalid; nothing was started.
        SystemExit: a run failed or was interrupted; the summary was printed.
    """
    console = make_console()
    if workers is not None:
        try:
            check_integer("hydra.launcher.workers", workers, 1)
        except ValueError as error:
            raise UsageError(str(error)) from error
    jobs = list({run.job.folder: run.job for run in runs}.values())
    todo = unfinished_jobs(jobs, console)
    if todo:
        with console.status("checking models and data"):
            check_runs(runs, devices=True)
    print_notes(runs, console)
    cores_per_run = max(
        run.settings.hardware.threads * run.settings.hardware.processes for run in runs
    )
    progress = SweepProgress(console, len(todo))
    with progress.bar, SignalHandler() as signals:
        results = run_jobs(
            todo,
            workers=workers or max(1, joblib.cpu_count() // cores_per_run),
            signals=signals,
            observer=progress,
            preload=PRELOAD,
        )
    by_folder = {job.folder: result for job, result in zip(todo, results, strict=True)}
    outcomes = [(job, job_outcome(job, by_folder.get(job.folder))) for job in jobs]
    print_summary(outcomes, console, root=runs[0].settings.root)
    return minimum_norms(runs)


def minimum_norms(runs: Sequence[PlannedRun]) -> list[float | None]:
    """Return the minimum full gradient norm of each run, or None if none was measured."""
    states = [RunFolder(run.job.folder).readable_state() for run in runs]
    return [None if state is None else state.full_gradient_norm for state in states]


def print_summary(
    outcomes: Sequence[tuple[Job, JobOutcome]], console: Console, *, root: str
) -> None:
    """Print the outcome of each run of a sweep, and the commands to continue with.

    Raises:
        SystemExit: a run has not ended.
    """
    counts = Counter(outcome.status for _, outcome in outcomes)
    console.print(", ".join(f"{number} {status}" for status, number in counts.items()))
    for job, outcome in outcomes:
        if outcome.status == Status.FAILED:
            console.print(f"failed: {job.name}: {outcome.message}")
            console.print(f"  see      accelerando logs {shlex.quote(str(job.folder))}")
    unfinished = sum(not outcome.status.is_final for _, outcome in outcomes)
    if unfinished:
        total = len(outcomes)
        console.print(
            f"unfinished: {unfinished} of {total} runs; rerun the same command to resume:"
        )
        console.print(f"  rerun    {shlex.join(['python', *sys.argv])}")
        sys.exit(1 if counts[Status.FAILED] else EXIT_INTERRUPTED)
    for experiment in sorted({job.folder.parents[1] for job, _ in outcomes}):
        console.print(f"compare  accelerando compare {shlex.quote(str(experiment))}")
    if any(_has_offline_rows(job) for job, _ in outcomes):
        console.print(f"W&B      accelerando sync {shlex.quote(root)}")


def _has_offline_rows(job: Job) -> bool:
    """Return whether the run has W&B rows that were written offline and not uploaded since."""
    files = job.folder.glob("wandb/offline-run-*/run-*.wandb")
    return any(not file.with_suffix(".wandb.synced").exists() for file in files)
