"""Runs that belong together, their names, and which run of one is the pair of which of another."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from accelerando.compare.filtering import LeftOut, affects_results
from accelerando.compare.load import Run, differing_settings, nested
from accelerando.scheduler_names import (
    DisplayName,
    class_name,
    scheduler_name,
    short_setting,
    sort_key,
    spaced_name,
)

Block = tuple[int, tuple[Hashable, ...]]
"""Seed, and all else that makes a run comparable with its pair in another group."""

_MISSING = "not set"


@dataclass(frozen=True)
class Group:
    """Runs that are compared as one.

    Args:
        name: tells it from the others, the same in every comparison: it has a colour by it.
        label: what figures call it.
        members: its runs by seed and by whatever else differs within the group.
        mixed: settings that differ within the group besides the seed.
    """

    name: str
    label: str
    members: dict[Block, Run]
    mixed: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(self.members.values())

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for seed, _ in self.members})


def group(runs: Sequence[Run], by: Sequence[str] = ("scheduler",)) -> list[Group]:
    """Runs by settings, or by sections of settings such as ``scheduler``.

    Schedulers are told apart by their names and departures, other sections by their names and by
    whatever else differs in them. The paper's cases come first, numbers in their order.
    """
    return split(runs, by)[0]


def split(runs: Sequence[Run], by: Sequence[str]) -> tuple[list[Group], list[LeftOut]]:
    """As ``group``, and the runs that repeat another of their group."""
    columns = [_parts(runs, key) for key in by]
    others = [name for name in affects_results(runs) if not nested(name, by)]
    found: dict[tuple[DisplayName, ...], dict[Block, Run]] = {}
    repeated = []
    for number, run in enumerate(runs):
        parts = tuple(column[number] for column in columns)
        members = found.setdefault(parts, {})
        block = (run.state.seed, tuple(str(run.config.get(name)) for name in others))
        if block in members:
            repeated.append(LeftOut(run, f"repeats {members[block].path}"))
        else:
            members[block] = run
    groups = []
    for parts in sorted(found, key=lambda parts: [part.order for part in parts]):
        members = found[parts]
        mixed = [name for name in affects_results(list(members.values())) if not nested(name, by)]
        name = ", ".join(part.name for part in parts)
        label = ", ".join(part.label for part in parts)
        groups.append(Group(name, label, members, tuple(mixed)))
    return groups, repeated


def _parts(runs: Sequence[Run], key: str) -> list[DisplayName]:
    if key == "scheduler":
        return [scheduler_name(run.config, run.state.epochs) for run in runs]
    if any(name.startswith(f"{key}.") for run in runs for name in run.config):
        return _sections(runs, key)
    return [_leaf(key, run.config.get(key)) for run in runs]


def _leaf(key: str, value: Any) -> DisplayName:
    text = _MISSING if value is None else str(value)
    return DisplayName(
        f"{key}={text}", f"{'.'.join(key.split('.')[-2:])} = {text}", sort_key(value)
    )


def _sections(runs: Sequence[Run], key: str) -> list[DisplayName]:
    """The section's name, and whatever else differs in it between runs of that name."""
    names = [str(run.config.get(f"{key}.name", key)) for run in runs]
    alike: dict[str, list[Run]] = {}
    for name, run in zip(names, runs, strict=True):
        alike.setdefault(name, []).append(run)
    settings = {name: list(differing_settings(members, [key])) for name, members in alike.items()}
    return [_section(key, name, run, settings[name]) for name, run in zip(names, runs, strict=True)]


def _section(key: str, name: str, run: Run, settings: Sequence[str]) -> DisplayName:
    classes = [class_name(run.config.get(kind)) for kind in settings if kind.endswith("_target_")]
    given = {
        setting.removeprefix(f"{key}."): run.config[setting]
        for setting in settings
        if not setting.endswith("_target_") and run.config.get(setting) is not None
    }
    words = [f"{setting}={value}" for setting, value in given.items()]
    label = ", ".join([" ".join([name, *map(spaced_name, classes)]), *map(short_setting, words)])
    order = (name, tuple(classes), tuple((k, sort_key(value)) for k, value in given.items()))
    return DisplayName(" ".join([name, *classes, *words]), label, order)
