"""A sweep on this machine: check every run, skip those that ended, run the rest."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
from omegaconf import DictConfig
from rich.console import Console

from accelerando.checks import UsageError, whole
from accelerando.config import check, register
from accelerando.identity import run_folder
from accelerando.launch.pool import Ended, Job, run_jobs
from accelerando.launch.view import SweepView, outcome
from accelerando.provenance import commit
from accelerando.tracking.folder import ENDED, FAILED, RunFolder

_PRELOAD = ("accelerando.launch.tryout", "wandb", "sklearn.datasets", "sklearn.model_selection")
"""Imported once for all runs: seconds for each of them otherwise."""


@dataclass(frozen=True)
class Planned:
    """One run of a sweep: its settings, and the call that trains it in another process."""

    config: DictConfig
    overrides: Sequence[str]
    call: Callable[[], Any]


def run_sweep(runs: Sequence[Planned], workers: int | None) -> list[float | None]:
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
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    notes = _check(runs, workers)
    jobs = [
        Job(name, run_folder(run.config), run.call)
        for name, run in zip(_names(runs), runs, strict=True)
    ]
    unique = list({job.folder: job for job in jobs}.values())
    todo = _unfinished(unique, console)
    if todo:
        with console.status("checking models and data"):
            _try_out([run.config for run in runs])
    for note, count in notes.items():
        console.print(f"note: in {count} of {len(runs)} runs {note}")
    cores = max(r.config.hardware.threads * r.config.hardware.processes for r in runs)
    with SweepView(console, len(todo)) as view:
        ended = run_jobs(
            todo,
            workers=workers or max(1, joblib.cpu_count() // cores),
            watch=view,
            preload=_PRELOAD,
        )
    how = {job.folder: end for job, end in zip(todo, ended, strict=True)}
    outcomes = [(job, *outcome(job, how.get(job.folder))) for job in unique]
    _conclude(outcomes, console, root=runs[0].config.root)
    states = [RunFolder(job.folder).read_state() for job in jobs]
    return [None if state is None else state.full_gradient_norm for state in states]


def _check(runs: Sequence[Planned], workers: int | None) -> Counter[str]:
    """Check every run's settings; count what there is to note of their schedules."""
    if not runs:
        raise UsageError("the sweep has no runs: every list of values needs at least one value")
    if workers is not None:
        try:
            whole("hydra.launcher.workers", workers, 1)
        except ValueError as error:
            raise UsageError(str(error)) from error
    return Counter(note for run in runs for note in check(run.config).notes)


def _in_process(configs: Sequence[DictConfig]) -> str | None:
    from accelerando.launch.tryout import try_out  # imports torch

    register()
    return try_out(configs)


class _Silent:
    """Watches nothing."""

    def poll(self, running: Sequence[Job]) -> None: ...

    def ended(self, job: Job, how: Ended) -> None: ...


def _try_out(configs: Sequence[DictConfig]) -> None:
    """Build every model and load every data set once, in a process of its own.

    Raises:
        UsageError: one of them cannot be had.
    """
    folder = Path(configs[0].root) / ".hydra"
    job = Job("try out", folder, partial(_in_process, configs))
    (how,) = run_jobs([job], workers=1, watch=_Silent(), preload=_PRELOAD)
    if how is None or how.asked:
        raise KeyboardInterrupt
    if how.code:
        raise UsageError(f"trying out the runs failed: see {RunFolder(folder).output}")
    if how.value:
        raise UsageError(how.value)


def _names(runs: Sequence[Planned]) -> list[str]:
    """Scheduler and seed, and whatever else differs between the runs."""
    everywhere = set.intersection(*(set(run.overrides) for run in runs))
    names = []
    for run in runs:
        told = ("seed=", "scheduler=")
        words = [w for w in run.overrides if w not in everywhere and not w.startswith(told)]
        names.append(" ".join([f"{run.config.scheduler.name} seed {run.config.seed}", *words]))
    return names


def _unfinished(jobs: Sequence[Job], console: Console) -> list[Job]:
    states = [RunFolder(job.folder).read_state() for job in jobs]
    ended = [state for state in states if state is not None and state.status in ENDED]
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
        if state is None or state.status not in ENDED
    ]


def _conclude(outcomes: Sequence[tuple[Job, str, str]], console: Console, *, root: str) -> None:
    counts = Counter(status for _, status, _ in outcomes)
    console.print(", ".join(f"{number} {status}" for status, number in counts.items()))
    for job, status, message in outcomes:
        if status == FAILED:
            console.print(f"failed: {job.name}: {message}\n  see {RunFolder(job.folder).output}")
    unfinished = len(outcomes) - sum(counts[status] for status in ENDED)
    if unfinished:
        console.print(f"the same command runs just the {unfinished} that did not end")
        sys.exit(1 if counts[FAILED] else 75)
    for experiment in sorted({job.folder.parents[1] for job, _, _ in outcomes}):
        console.print(f"compare  accelerando compare {experiment}")
    offline = any(any(job.folder.glob("wandb/offline-run-*")) for job, _, _ in outcomes)
    if offline:
        console.print(f"W&B      wandb sync {root}/*/*/*/wandb/offline-run-*")
