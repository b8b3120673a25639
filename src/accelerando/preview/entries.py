"""From words of a command line to the schedules they describe, one entry for each."""

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
    """A schedule, under the name and the label that a comparison of its runs gives it."""

    name: str
    label: str
    scheduler: Scheduler
    plan: Plan
    interval: int
    """Epochs in a stage."""


def schedule_entries(words: Sequence[str], examples: int | None) -> list[ScheduleEntry]:
    """The schedules of ``python train.py -m WORDS``; runs that share a schedule give one entry.

    Args:
        words: overrides of train.py.
        examples: training examples, in place of the dataset's.

    Raises:
        UsageError: a schedule cannot be built, or does not fit its run.
    """
    more = [] if examples is None else [f"dataset.examples={examples}"]
    configs = compose_runs([*words, *more])
    lengths = {"epochs": {config.epochs for config in configs},
               "examples": {config.dataset.examples for config in configs}}  # fmt: skip
    # a name says the scheduler alone: where the runs' lengths differ, they are added
    added = [name for name, values in lengths.items() if len(values) > 1]
    found: dict[str, ScheduleEntry] = {}
    for config in configs:
        entry = _entry(config, added)
        found.setdefault(entry.name, entry)
    return list(found.values())


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
