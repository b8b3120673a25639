"""Group runs by settings, name the groups, and pair their runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from accelerando.compare.filtering import ExcludedRun, differing_result_settings
from accelerando.compare.load import Run, differing_settings, nested
from accelerando.scheduler_names import (
    DisplayName,
    class_name,
    scheduler_name,
    short_setting,
    sort_key,
    spaced_name,
)

PairKey = tuple[int, tuple[Hashable, ...]]
"""The seed and the settings that differ within groups."""
KeyPair = tuple[PairKey, PairKey]


@dataclass(frozen=True)
class Group:
    """Runs that are compared as one; ``mixed`` are the settings other than the seed that differ.

    ``name`` is unique and determines the colour, ``label`` is shown in figures and tables.
    """

    name: str
    label: str
    members: dict[PairKey, Run]
    mixed: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(self.members.values())

    @cached_property
    def learned(self) -> dict[PairKey, Run]:
        """The members that neither diverged nor learned nothing; all if there are none."""
        return {key: run for key, run in self.members.items() if not run.failed} or self.members

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for seed, _ in self.members})

    @cached_property
    def failures(self) -> str:
        """The runs that failed, such as "2 of 8 diverged"; empty if there are none."""
        counts = Counter(run.failed for run in self.runs if run.failed)
        return ", ".join(f"{n} of {len(self.runs)} {kind}" for kind, n in counts.items())


def pair_keys(first: Collection[PairKey], second: Collection[PairKey]) -> list[KeyPair]:
    """Return which runs of two groups form pairs.

    Runs of a seed pair if their settings agree, or, if none of that seed do, each with each.
    """
    equal = {key[0] for key in first if key in second}
    others: dict[int, list[PairKey]] = {}
    for key in second:
        others.setdefault(key[0], []).append(key)
    return [
        (own, other)
        for own in first
        for other in others.get(own[0], ())
        if own == other or own[0] not in equal
    ]


def group_runs(
    runs: Sequence[Run], by: Sequence[str] = ("scheduler",)
) -> tuple[list[Group], list[ExcludedRun]]:
    """Group runs by settings, or by sections of settings such as ``scheduler``.

    Schedulers are distinguished by their names and by how they differ from their usual form;
    other sections by their names and all differing settings. The paper's cases come first;
    numbers are sorted by value.

    Returns:
        The groups, and the runs that duplicate another one of their group.
    """
    names_by_key = [_display_names(runs, key) for key in by]
    runs_by_name: dict[tuple[DisplayName, ...], list[Run]] = {}
    for run, *run_names in zip(runs, *names_by_key, strict=True):
        runs_by_name.setdefault(tuple(run_names), []).append(run)
    # not what differs between groups, such as their budgets: it would leave seeds without a partner
    other_settings = sorted(
        {name for same in runs_by_name.values() for name in _differing_within(same, by)}
    )
    members_by_name: dict[tuple[DisplayName, ...], dict[PairKey, Run]] = {}
    duplicates = []
    for names, same in runs_by_name.items():
        members = members_by_name.setdefault(names, {})
        for run in same:
            key = (run.state.seed, tuple(str(run.config.get(name)) for name in other_settings))
            if key in members:
                duplicates.append(ExcludedRun(run, f"duplicates {members[key].path}"))
            else:
                members[key] = run
    groups = [
        Group(
            name=", ".join(part.name for part in names),
            label=", ".join(part.label for part in names),
            members=members,
            mixed=_differing_within(list(members.values()), by),
        )
        for names, members in sorted(
            members_by_name.items(), key=lambda item: [part.order for part in item[0]]
        )
    ]
    return groups, duplicates


def _differing_within(runs: Sequence[Run], by: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in differing_result_settings(runs) if not nested(name, by))


def _display_names(runs: Sequence[Run], key: str) -> list[DisplayName]:
    if key == "scheduler":
        return [scheduler_name(run.config, run.state.epochs) for run in runs]
    if any(name.startswith(f"{key}.") for run in runs for name in run.config):
        return _section_names(runs, key)
    return [_setting_name(key, run.config.get(key)) for run in runs]


def _setting_name(key: str, value: Any) -> DisplayName:
    text = "not set" if value is None else str(value)
    label = f"{'.'.join(key.split('.')[-2:])} = {text}"
    return DisplayName(f"{key}={text}", label, sort_key(value))


def _section_names(runs: Sequence[Run], key: str) -> list[DisplayName]:
    """Name each value of a section: its ``name``, plus what differs between runs of that name."""
    names = [str(run.config.get(f"{key}.name", key)) for run in runs]
    pairs = list(zip(names, runs, strict=True))
    differing = {
        name: list(differing_settings([run for other, run in pairs if other == name], [key]))
        for name in set(names)
    }
    return [_section_name(key, name, run, differing[name]) for name, run in pairs]


def _section_name(key: str, name: str, run: Run, settings: Sequence[str]) -> DisplayName:
    classes = [class_name(run.config.get(name)) for name in settings if name.endswith("_target_")]
    values = {
        setting.removeprefix(f"{key}."): run.config[setting]
        for setting in settings
        if not setting.endswith("_target_") and run.config.get(setting) is not None
    }
    texts = [f"{setting}={value}" for setting, value in values.items()]
    label = ", ".join([" ".join([name, *map(spaced_name, classes)]), *map(short_setting, texts)])
    order = (name, tuple(classes), tuple((k, sort_key(value)) for k, value in values.items()))
    return DisplayName(" ".join([name, *classes, *texts]), label, order)
