"""The comparison: each group on each axis, against the best group and against a reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from accelerando.checks import UsageError
from accelerando.compare.align import AXES, column, common_budget, describe_cut, min_norm_at
from accelerando.compare.filtering import ExcludedRun
from accelerando.compare.groups import Group, PairKey, pair_keys
from accelerando.compare.load import DamagedRun, Run
from accelerando.compare.statistics import (
    FloatArray,
    PairedTest,
    Summary,
    mean_per_seed,
    median,
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
        norm: minimum full gradient norm at the common budget, over the seeds that did not fail; a
            seed that failed counts as infinite in the median.
        vs_best: compared with the best group; None for itself, or without common seeds.
        vs_reference: compared with the reference, likewise.
        times_to_target, speedups: for each threshold; speed-ups are over the reference.
        ratios: norm / norm of the reference, for each common seed; NaN if the latter is 0.
    """

    group: Group
    norm: Summary
    vs_best: PairedTest | None
    vs_reference: PairedTest | None
    times_to_target: Sequence[TimeToTarget]
    speedups: Sequence[Speedup]
    ratios: Sequence[float]


@dataclass(frozen=True)
class AxisComparison:
    """The comparison at equal cost on one of ``AXES``.

    Args:
        budget: the cost at which norms are compared, the largest that every run reached.
        results: of each group, in the order of the comparison.
        best_vs_second: the paired test of the two lowest mean norms; None for a single group, or
            without common seeds.
        cuts: where the budget cuts schedules short, by the label of the group.
    """

    axis: str
    budget: float
    results: Sequence[GroupResult]
    best_vs_second: PairedTest | None
    cuts: Mapping[str, str]

    @cached_property
    def ranked(self) -> list[GroupResult]:
        """The results sorted by mean norm, the best first; groups with failures come last."""
        return sorted(self.results, key=lambda result: _rank(result.group, result.norm))

    @property
    def best(self) -> GroupResult:
        return self.ranked[0]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that tables, figures and the report show.

    Args:
        title: model, data and length of the runs.
        by: the settings that runs are grouped by.
        reference: the group that speed-ups are relative to.
        thresholds: norms to reach, descending.
        fixed_thresholds: those of them that were chosen before the runs were seen.
        excluded: runs that were found but not compared.
        damaged: runs that could not be read.
        mixed: the keys of ``SHARED_SETTINGS`` that were allowed to differ.
    """

    title: str
    by: tuple[str, ...] = ("scheduler",)
    groups: Sequence[Group]
    reference: Group
    thresholds: Sequence[float]
    fixed_thresholds: Sequence[float] = ()
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
    """Summarize the last value of a column over a group's seeds, except runs that failed."""
    last = {key: column(run, name)[-1] for key, run in group.learned.items()}
    return summarize(_average_per_seed(last))


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


def _compare_on(axis: str, comparison: Comparison) -> AxisComparison:
    groups, thresholds = comparison.groups, comparison.thresholds
    budget = common_budget(groups, axis)
    norms = [
        {key: min_norm_at(run, axis, budget) for key, run in group.members.items()}
        for group in groups
    ]
    costs = [group_costs(group, axis, thresholds) for group in groups]

    def norms_in_pairs(first: int, second: int) -> tuple[FloatArray, FloatArray]:
        """Return the norms of two groups for their common seeds."""
        pairs = pair_keys(norms[first], norms[second])
        own = {key: norms[first][key] for key, _ in pairs}
        other = {key: norms[second][key] for _, key in pairs}
        return _average_per_seed(own), _average_per_seed(other)

    summaries = [_summarize(_average_per_seed(values)) for values in norms]
    best, *others = sorted(
        range(len(groups)), key=lambda number: _rank(groups[number], summaries[number])
    )
    ref = next(number for number, group in enumerate(groups) if group is comparison.reference)
    results = []
    for number, group in enumerate(groups):
        own, other = norms_in_pairs(number, ref)
        known = np.isfinite(own) & np.isfinite(other) & (other != 0)
        ratios = np.divide(own, other, out=np.full(len(own), np.nan), where=known)
        is_best, is_reference = number == best, number == ref
        result = GroupResult(
            group=group,
            norm=summaries[number],
            vs_best=None if is_best else paired_test(*norms_in_pairs(number, best)),
            vs_reference=None if is_reference else paired_test(own, other),
            times_to_target=times_to_target(costs[number], thresholds),
            speedups=[] if is_reference else speedups(costs[number], costs[ref], thresholds),
            ratios=[] if is_reference else ratios.tolist(),
        )
        results.append(result)
    best_vs_second = paired_test(*norms_in_pairs(best, others[0])) if others else None
    cuts = {group.label: cut for group in groups if (cut := describe_cut(group, axis, budget))}
    return AxisComparison(axis, budget, results, best_vs_second, cuts)


def _rank(group: Group, norm: Summary) -> tuple[float, float]:
    """Return a sorting key: groups with failures come after all others, the fewest first."""
    failed = sum(bool(run.failed) for run in group.runs) / len(group.runs)
    return failed, math.inf if math.isnan(norm.mean) else norm.mean


def _summarize(norms: FloatArray) -> Summary:
    """Summarize the finite norms, and take the median of all."""
    finite = norms[np.isfinite(norms)]
    if not len(finite):
        nan = math.nan
        return Summary(len(norms), nan, math.inf, nan, nan, nan, nan)
    summary = summarize(finite)
    return replace(summary, count=len(norms), median=median(norms))


def _average_per_seed(values: dict[PairKey, float]) -> FloatArray:
    return mean_per_seed(np.array(list(values.values())), [seed for seed, _ in values])
