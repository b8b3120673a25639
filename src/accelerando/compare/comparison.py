"""The comparison: each group on each axis, against the best group and against a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from accelerando.checks import UsageError
from accelerando.compare.align import AXES, column, common_budget, min_norm_at
from accelerando.compare.filtering import ExcludedRun
from accelerando.compare.groups import Group, PairKey
from accelerando.compare.load import DamagedRun, Run
from accelerando.compare.statistics import (
    FloatArray,
    PairedTest,
    Summary,
    mean_per_seed,
    paired_test,
    summarize,
)
from accelerando.compare.thresholds import (
    Speedup,
    TimeToTarget,
    group_costs,
    speedups,
    times_to_target,
)


@dataclass(frozen=True)
class GroupResult:
    """The results of a group on one axis.

    Args:
        group: the group.
        norm: minimum full gradient norm at the common budget, over the group's seeds.
        vs_best: compared with the best group; None for itself, or without common seeds.
        vs_reference: compared with the reference, likewise.
        times_to_target: the cost of each threshold.
        speedups: over the reference, for each threshold; empty for the reference.
        ratios: norm / norm of the reference, for each common seed; NaN if the latter is 0.
    """

    group: Group
    norm: Summary
    vs_best: PairedTest | None
    vs_reference: PairedTest | None
    times_to_target: tuple[TimeToTarget, ...]
    speedups: tuple[Speedup, ...]
    ratios: tuple[float, ...]


@dataclass(frozen=True)
class AxisComparison:
    """The comparison at equal cost on one axis.

    Args:
        axis: one of ``AXES``.
        budget: the cost at which norms are compared, the largest that every run reached.
        results: of each group, in the order of the comparison.
        best_vs_second: the paired test of the two lowest mean norms; None for a single group, or
            without common seeds.
    """

    axis: str
    budget: float
    results: tuple[GroupResult, ...]
    best_vs_second: PairedTest | None

    @cached_property
    def ranked(self) -> list[GroupResult]:
        """The results sorted by mean norm, the best first."""
        return sorted(self.results, key=lambda result: result.norm.mean)

    @property
    def best(self) -> GroupResult:
        return self.ranked[0]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that tables, figures and the report show.

    Args:
        title: model, data and length of the runs.
        by: the settings that runs are grouped by.
        groups: the groups, at least one.
        reference: the group that speed-ups are relative to.
        thresholds: norms to reach, descending.
        excluded: runs that were found but not compared.
        damaged: runs that could not be read.
        mixed: the keys of ``SHARED_SETTINGS`` that were allowed to differ.
    """

    title: str
    by: tuple[str, ...] = ("scheduler",)
    groups: Sequence[Group]
    reference: Group
    thresholds: Sequence[float]
    excluded: Sequence[ExcludedRun] = ()
    damaged: Sequence[DamagedRun] = ()
    mixed: Sequence[str] = ()

    @cached_property
    def axes(self) -> dict[str, AxisComparison]:
        """The comparison on each of ``AXES``."""
        return {axis: _compare_on(axis, self) for axis in AXES}

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    @property
    def names(self) -> list[str]:
        """The names of all groups, which determine their styles even if only some are drawn."""
        return [group.name for group in self.groups]


def final_summary(group: Group, name: str) -> Summary:
    """Summarize the last value of a column over a group's seeds."""
    return _summarize({key: column(run, name)[-1] for key, run in group.members.items()})


def find_group(groups: Sequence[Group], reference: str) -> Group:
    """Return the group of that name or label, or the only group of that scheduler.

    Raises:
        UsageError: there is none.
    """
    for group in groups:
        if reference in (group.name, group.label):
            return group
    of_scheduler = [group for group in groups if group.name.split()[0] == reference]
    if len(of_scheduler) == 1:
        return of_scheduler[0]
    names = ", ".join(group.name for group in groups)
    raise UsageError(f"--reference {reference}: no such group; choose one of {names}")


_Values = dict[PairKey, float]


def _compare_on(axis: str, comparison: Comparison) -> AxisComparison:
    groups, thresholds = comparison.groups, comparison.thresholds
    budget = common_budget(comparison.runs, axis)
    norms = [
        {key: min_norm_at(run, axis, budget) for key, run in group.members.items()}
        for group in groups
    ]
    costs = [group_costs(group, axis, thresholds) for group in groups]
    summaries = [_summarize(values) for values in norms]
    best, *others = sorted(range(len(groups)), key=lambda number: summaries[number].mean)
    ref = next(number for number, group in enumerate(groups) if group is comparison.reference)
    results = tuple(
        GroupResult(
            group=group,
            norm=summaries[number],
            vs_best=None if number == best else _paired_test(norms[number], norms[best]),
            vs_reference=None if number == ref else _paired_test(norms[number], norms[ref]),
            times_to_target=tuple(times_to_target(costs[number], thresholds)),
            speedups=() if number == ref else tuple(
                speedups(costs[number], costs[ref], thresholds)),
            ratios=() if number == ref else _ratios(norms[number], norms[ref]),
        )
        for number, group in enumerate(groups)
    )  # fmt: skip
    best_vs_second = _paired_test(norms[best], norms[others[0]]) if others else None
    return AxisComparison(axis, budget, results, best_vs_second)


def _per_seed(values: _Values) -> FloatArray:
    return mean_per_seed(np.array(list(values.values())), [seed for seed, _ in values])


def _summarize(values: _Values) -> Summary:
    return summarize(_per_seed(values))


def _common_seeds(first: _Values, second: _Values) -> tuple[FloatArray, FloatArray]:
    """Return the values of the common seeds, averaged over the pairs of each seed."""
    common = [key for key in first if key in second]
    own, other = ({key: values[key] for key in common} for values in (first, second))
    return _per_seed(own), _per_seed(other)


def _paired_test(first: _Values, second: _Values) -> PairedTest | None:
    return paired_test(*_common_seeds(first, second))


def _ratios(own: _Values, reference: _Values) -> tuple[float, ...]:
    return tuple(
        float(first / second) if second else math.nan
        for first, second in zip(*_common_seeds(own, reference), strict=True)
    )
