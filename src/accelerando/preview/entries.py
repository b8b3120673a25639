"""The schedules that overrides of the command line describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from accelerando.build import build_plan, build_scheduler
from accelerando.composition import compose_runs
from accelerando.config import RunSettings
from accelerando.packaged_schedulers import flatten
from accelerando.schedule import Plan, Scheduler
from accelerando.schedule.stages import DEFAULT_LENGTHS
from accelerando.scheduler_names import scheduler_name


class ScheduleEntry(NamedTuple):
    """A schedule with the name and label that comparisons give it; ``interval`` is its stage."""

    name: str
    label: str
    scheduler: Scheduler
    plan: Plan
    interval: int


def schedule_entries(overrides: Sequence[str], examples: int | None) -> list[ScheduleEntry]:
    """Return the distinct schedules of the runs of ``python train.py -m OVERRIDES``.

    Raises:
        UsageError: a schedule cannot be built, or does not fit its run.
    """
    more = [] if examples is None else [f"dataset.examples={examples}"]
    configs = compose_runs([*overrides, *more])
    # the name of a scheduler does not include lengths, so add those that differ between runs
    lengths = [_lengths(config) for config in configs]
    added = [k for k in ("epochs", "examples") if len({length[k] for length in lengths}) > 1]
    entries: dict[str, ScheduleEntry] = {}
    for config in configs:
        entry = _entry(config, added)
        entries.setdefault(entry.name, entry)
    return list(entries.values())


def _lengths(config: RunSettings) -> dict[str, int]:
    return {"epochs": config.epochs, "examples": config.dataset.examples}


def _entry(config: RunSettings, added: Sequence[str]) -> ScheduleEntry:
    part = scheduler_name(flatten({"scheduler": config.tree["scheduler"]}), config.epochs)
    lengths = _lengths(config)
    interval = config.scheduler.target["batch_size"].get("interval")
    return ScheduleEntry(
        name=" ".join([part.name, *(f"{key}={lengths[key]}" for key in added)]),
        label=", ".join([part.label, *(f"{lengths[key]:,} {key}" for key in added)]),
        scheduler=build_scheduler(config),
        plan=build_plan(config),
        interval=int(interval) if interval else DEFAULT_LENGTHS["stage"](config.epochs),
    )
