"""Plan a sweep: validate its runs, build their plans and skip those that have ended."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from accelerando.build import settings_from_hydra
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.hydra_adapter import HydraJob
from accelerando.identity import run_folder
from accelerando.interruption import SignalHandler
from accelerando.launch.pool import Job, run_jobs
from accelerando.provenance import git_commit
from accelerando.runs.folder import RunFolder
from accelerando.schedule import Plan
from accelerando.validation import validate

PREFLIGHT = "accelerando.launch.preflight"
PRELOAD = (
    PREFLIGHT,
    "wandb",
    "sklearn.datasets",
    "sklearn.model_selection",
    "torch.fx.experimental.symbolic_shapes",  # torch imports it at the first backward pass
)
"""Modules that are imported once for all runs, which saves each of them seconds."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep; its job trains it in another process."""

    settings: RunSettings
    plan: Plan
    job: Job


def plan_runs(jobs: Sequence[HydraJob]) -> list[PlannedRun]:
    """Validate the settings of every run of a sweep and build its plan.

    Raises:
        UsageError: a setting of a run is out of range, or the sweep has no runs.
    """
    if not jobs:
        raise UsageError("the sweep has no runs: every list of values needs at least one value")
    shared = set.intersection(*(set(job.overrides) for job in jobs))
    return [_plan_run(job, shared) for job in jobs]


def _plan_run(job: HydraJob, shared_overrides: set[str]) -> PlannedRun:
    settings = settings_from_hydra(job.config)
    plan = validate(settings)
    # scheduler and seed are part of the name anyway
    differing = [
        override
        for override in job.overrides
        if override not in shared_overrides and not override.startswith(("seed=", "scheduler="))
    ]
    name = " ".join([f"{settings.scheduler.name} seed {settings.seed}", *differing])
    return PlannedRun(settings, plan, Job(name, run_folder(settings), job))


def print_notes(runs: Sequence[PlannedRun], console: Console) -> None:
    """Print the notes of all plans, each distinct note once."""
    counts = Counter(note for run in runs for note in run.plan.notes)
    for note, count in counts.items():
        console.print(f"note: in {count} of {len(runs)} runs {note}")


def unfinished_jobs(jobs: Sequence[Job], console: Console) -> list[Job]:
    """Return the jobs whose runs have not ended yet, and print how many have."""
    ended, unfinished = [], []
    for job in jobs:
        state = RunFolder(job.folder).readable_state()
        if state is not None and state.status.is_final:
            ended.append(state)
        else:
            unfinished.append(job)
    if ended:
        console.print(f"{len(ended)} of {len(jobs)} runs have already ended")
        current = git_commit()
        outdated = sum(state.environment.get("commit") != current for state in ended)
        if outdated:
            console.print(
                f"note: {outdated} of them were created by a different commit (now {current}); "
                "remove their folders to rerun them"
            )
    return unfinished


def check_runs(runs: Sequence[PlannedRun], *, devices: bool) -> None:
    """Run the preflight checks, which build each model and load each data set, in a new process.

    With ``devices``, the devices of this machine are checked too.

    Raises:
        UsageError: a check failed; the message names the setting.
        KeyboardInterrupt: a signal was received.
    """
    folder = Path(runs[0].settings.root) / ".hydra"
    inputs = [(run.settings, run.plan) for run in runs]
    job = Job("preflight", folder, partial(_preflight, inputs, devices))
    # without devices to check, the runs train elsewhere and need no preloaded modules here
    preload = PRELOAD if devices else (PREFLIGHT,)
    with SignalHandler() as signals:
        (result,) = run_jobs([job], workers=1, signals=signals, preload=preload)
    if result is None or signals.received:  # the process may have ended before it was stopped
        raise KeyboardInterrupt
    if result.exit_code < 0:
        raise UsageError(
            f"the check of the runs was killed by {signal.Signals(-result.exit_code).name}; this "
            "machine may have run out of memory: run the command inside a SLURM job"
        )
    if result.exit_code:
        raise UsageError(f"checking the runs failed: see {RunFolder(folder).output}")
    if result.value:
        raise UsageError(result.value)


def _preflight(inputs: Sequence[tuple[RunSettings, Plan]], devices: bool) -> str | None:
    from accelerando.launch.preflight import preflight  # imports torch

    return preflight(inputs, devices=devices)
