"""The schedules that overrides of the command line describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from accelerando.build import build_plan, build_scheduler
from accelerando.composition import compose_runs
from accelerando.config import RunSettings
from accelerando.packaged_schedulers import flatten
from accelerando.schedule import Plan, Scheduler
from accelerando.schedule.stages import stage_length
from accelerando.scheduler_names import scheduler_name


class ScheduleEntry(NamedTuple):
    """A schedule with the name and label that comparisons give it.

    Args:
        name: unique among the entries.
        label: name in figures.
        scheduler: the scheduler.
        plan: the scheduler fitted to its run.
        interval: length of a stage in epochs.
    """

    name: str
    label: str
    scheduler: Scheduler
    plan: Plan
    interval: int


def schedule_entries(overrides: Sequence[str], examples: int | None) -> list[ScheduleEntry]:
    """Return the distinct schedules of the runs of ``python train.py -m OVERRIDES``.

    Args:
        overrides: overrides as for train.py.
        examples: number of training examples, if not that of the data set.

    Raises:
        UsageError: a schedule cannot be built, or does not fit its run.
    """
    more = [] if examples is None else [f"dataset.examples={examples}"]
    configs = compose_runs([*overrides, *more])
    lengths = {"epochs": {config.epochs for config in configs},
               "examples": {config.dataset.examples for config in configs}}  # fmt: skip
    # the name of a scheduler does not include lengths, so add those that differ between runs
    added = [name for name, values in lengths.items() if len(values) > 1]
    entries: dict[str, ScheduleEntry] = {}
    for config in configs:
        entry = _entry(config, added)
        entries.setdefault(entry.name, entry)
    return list(entries.values())


def _entry(config: RunSettings, added: Sequence[str]) -> ScheduleEntry:
    part = scheduler_name(flatten({"scheduler": config.tree["scheduler"]}), config.epochs)
    lengths = {"epochs": config.epochs, "examples": config.dataset.examples}
    name = " ".join([part.name, *(f"{key}={lengths[key]}" for key in added)])
    label = ", ".join([part.label, *(f"{lengths[key]:,} {key}" for key in added)])
    return ScheduleEntry(
        name, label, build_scheduler(config), build_plan(config), _interval(config)
    )


def _interval(config: RunSettings) -> int:
    interval = config.scheduler.target["batch_size"].get("interval")
    return int(interval) if interval else stage_length(config.epochs)
