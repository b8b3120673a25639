"""What a sweep has to do: every run checked, named, and those that have ended left out."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from accelerando.build import validate
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import SignalHandler
from accelerando.launch.pool import Job, JobResult, run_jobs
from accelerando.provenance import commit
from accelerando.runs.folder import RunFolder

TRYOUT = "accelerando.launch.preflight"
PRELOAD = (
    TRYOUT,
    "wandb",
    "sklearn.datasets",
    "sklearn.model_selection",
    "torch.fx.experimental.symbolic_shapes",  # which torch imports at the first backward pass
)
"""Imported once for all runs: seconds for each of them otherwise."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep: its settings, and the call that trains it in another process."""

    settings: RunSettings
    overrides: Sequence[str]
    call: Callable[[], Any]


def plan_notes(runs: Sequence[PlannedRun]) -> list[str]:
    """Check every run's settings; what there is to note of their schedules.

    Raises:
        UsageError: a setting of any run is out of range, or there is no run.
    """
    if not runs:
        raise UsageError("the sweep has no runs: every list of values needs at least one value")
    counts = Counter(note for run in runs for note in validate(run.settings).notes)
    return [f"in {count} of {len(runs)} runs {note}" for note, count in counts.items()]


def group_into_jobs(runs: Sequence[PlannedRun]) -> list[Job]:
    """A job for each run, in order; named by scheduler, seed and whatever else differs."""
    everywhere = set.intersection(*(set(run.overrides) for run in runs))
    told = ("seed=", "scheduler=")
    jobs = []
    for run in runs:
        words = [w for w in run.overrides if w not in everywhere and not w.startswith(told)]
        name = " ".join([f"{run.settings.scheduler.name} seed {run.settings.seed}", *words])
        jobs.append(Job(name, run_folder(run.settings), run.call))
    return jobs


def unfinished_runs(jobs: Sequence[Job], console: Console) -> list[Job]:
    """Those whose runs have not ended yet; it is said how many have."""
    states = [RunFolder(job.folder).readable_state() for job in jobs]
    ended = [state for state in states if state is not None and state.status.is_final]
    if ended:
        console.print(f"{len(ended)} of {len(jobs)} runs have ended already")
        now = commit()
        other = sum(state.environment.get("commit") != now for state in ended)
        if other:
            console.print(
                f"note: {other} of them were made by other code than this ({now}); "
                "remove their folders to run them anew"
            )
    return [
        job
        for job, state in zip(jobs, states, strict=True)
        if state is None or not state.status.is_final
    ]


def check_runs(settings: Sequence[RunSettings], *, devices: bool) -> None:
    """Build every model and load every data set once, in a process of its own.

    Args:
        settings: of the runs.
        devices: also see that their devices are here.

    Raises:
        UsageError: one of them cannot be had.
        KeyboardInterrupt: a signal came meanwhile.
    """
    folder = Path(settings[0].root) / ".hydra"
    job = Job("try out", folder, partial(_in_process, settings, devices))
    # the runs themselves need more, but where their devices are not to be seen they are elsewhere
    preload = PRELOAD if devices else (TRYOUT,)
    with SignalHandler() as stop:
        (how,) = run_jobs([job], workers=1, watch=_Silent(), stop=stop, preload=preload)
    if how is None or stop.received:  # it may have ended before it could be asked to
        raise KeyboardInterrupt
    if how.code < 0:
        raise UsageError(
            f"trying out the runs was ended by {signal.Signals(-how.code).name}, perhaps for want "
            "of memory on this machine: give the command inside a job"
        )
    if how.code:
        raise UsageError(f"trying out the runs failed: see {RunFolder(folder).output}")
    if how.value:
        raise UsageError(how.value)


def _in_process(settings: Sequence[RunSettings], devices: bool) -> str | None:
    from accelerando.launch.preflight import preflight  # imports torch

    return preflight(settings, devices=devices)


class _Silent:
    """Watches nothing."""

    def poll(self, running: Sequence[Job]) -> None: ...

    def ended(self, job: Job, how: JobResult) -> None: ...
