"""A sweep on this machine: check every run, skip those that ended, run the rest."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from accelerando.checks import UsageError
from accelerando.config import check, run_folder
from accelerando.launch.pool import Job, cores, run_jobs
from accelerando.launch.view import SweepView, outcome
from accelerando.tracking.folder import ENDED, FAILED, RunFolder

_PRELOAD = ("accelerando.training.run", "wandb", "sklearn.datasets", "sklearn.model_selection")
"""Imported once for all runs: seconds for each of them otherwise."""


@dataclass(frozen=True)
class Planned:
    """One run of a sweep: its settings, and the call that trains it in another process."""

    config: DictConfig
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
    if not runs:
        raise UsageError("the sweep has no runs: every list of values needs at least one value")
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    _check([run.config for run in runs], console)
    jobs = [Job(_name(run.config), run_folder(run.config), run.call) for run in runs]
    unique = list({job.folder: job for job in jobs}.values())
    todo = [job for job in unique if not _has_ended(job)]
    if len(todo) < len(unique):
        console.print(f"{len(unique) - len(todo)} of {len(unique)} runs have ended already")
    at_once = workers or max(1, cores() // max(run.config.hardware.threads for run in runs))
    with SweepView(console, len(todo)) as view:
        ended = run_jobs(todo, workers=at_once, watch=view, preload=_PRELOAD)
    how = {job.folder: end for job, end in zip(todo, ended, strict=True)}
    outcomes = [(job, *outcome(job, how.get(job.folder))) for job in unique]
    _conclude(outcomes, console, root=runs[0].config.root)
    states = [RunFolder(job.folder).read_state() for job in jobs]
    return [None if state is None else state.full_gradient_norm for state in states]


def _check(configs: Sequence[DictConfig], console: Console) -> None:
    notes = Counter(note for config in configs for note in check(config).notes)
    for device in {config.hardware.device for config in configs} - {"cpu"}:
        from accelerando.training.device import prepare_device  # imports torch

        prepare_device(device, threads=1)
    for note, count in notes.items():
        console.print(f"note: in {count} of {len(configs)} runs {note}")


def _name(config: DictConfig) -> str:
    return f"{config.scheduler.name} seed {config.seed}"


def _has_ended(job: Job) -> bool:
    state = RunFolder(job.folder).read_state()
    return state is not None and state.status in ENDED


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
    console.print(f"compare them: accelerando compare {root}")
