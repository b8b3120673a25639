"""The comparison itself: every group on every axis, against the best and against a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from accelerando.checks import UsageError
from accelerando.compare.align import AXES, common_budget, norm_at
from accelerando.compare.filtering import LeftOut
from accelerando.compare.groups import Block, Group
from accelerando.compare.load import DamagedRun, Run
from accelerando.compare.statistics import (
    FloatArray,
    Paired,
    Summary,
    over_seeds,
    paired,
    summaries,
)
from accelerando.compare.thresholds import (
    Costs,
    SpeedUp,
    TimeToTarget,
    group_costs,
    levels,
    speed_ups,
    times_to_target,
)


@dataclass(frozen=True)
class GroupResult:
    """One group on one axis.

    Args:
        group: which.
        norm: minimum full gradient norm at the common budget, over its runs.
        against_best: compared with the best group; None for itself, and without common seeds.
        against_reference: compared with the reference, likewise.
        reach: cost of each level.
        speed_up: against the reference, for each level; empty for the reference.
        ratios: the norm over the reference's, of each common seed; NaN where that is 0.
    """

    group: Group
    norm: Summary
    against_best: Paired | None
    against_reference: Paired | None
    reach: tuple[TimeToTarget, ...]
    speed_up: tuple[SpeedUp, ...]
    ratios: tuple[float, ...]


@dataclass(frozen=True)
class AxisComparison:
    """The comparison at equal cost on one axis.

    Args:
        axis: one of ``AXES``.
        budget: the cost, the farthest that every run reached.
        standings: of each group, in the order of the comparison.
        order: numbers of the groups, the lowest mean norm first.
        duel: the best against the second best; None for one group, or without common seeds.
    """

    axis: str
    budget: float
    standings: tuple[GroupResult, ...]
    order: tuple[int, ...]
    duel: Paired | None

    @property
    def best(self) -> GroupResult:
        return self.standings[self.order[0]]

    @property
    def second(self) -> GroupResult | None:
        return self.standings[self.order[1]] if len(self.order) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """Everything that tables, figures and the report are made of.

    Args:
        title: model, data and length of the runs.
        by: settings that runs are grouped by.
        groups: those compared.
        reference: the group that speed-ups are counted against.
        thresholds: levels of the norm.
        axes: the comparison on each axis.
        left_out: runs that were found and not compared.
        broken: runs that could not be read.
        mixed: kinds that were allowed to differ.
    """

    title: str
    by: tuple[str, ...]
    groups: tuple[Group, ...]
    reference: Group
    thresholds: tuple[float, ...]
    axes: dict[str, AxisComparison]
    left_out: tuple[LeftOut, ...] = ()
    broken: tuple[DamagedRun, ...] = ()
    mixed: tuple[str, ...] = field(default=())

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    @property
    def names(self) -> list[str]:
        """Of the groups; their colours go by all of them, also where only some are drawn."""
        return [group.name for group in self.groups]


def compare(
    groups: Sequence[Group],
    *,
    title: str,
    by: Sequence[str] = ("scheduler",),
    reference: str | None = None,
    thresholds: Sequence[float] | None = None,
    left_out: Sequence[LeftOut] = (),
    broken: Sequence[DamagedRun] = (),
    mixed: Sequence[str] = (),
) -> Comparison:
    """Compare groups on every axis.

    Args:
        groups: what to compare, at least one.
        title: model, data and length of the runs.
        by: settings that they were grouped by.
        reference: name or label of the group to count speed-ups against, or the name of its
            scheduler where that is enough; None: the first.
        thresholds: levels of the norm; None: chosen from what the runs went through.
        left_out: runs that are not in any group.
        broken: runs that could not be read.
        mixed: kinds that were allowed to differ.

    Raises:
        UsageError: there is no such reference.
    """
    chosen = groups[0] if reference is None else _named(groups, reference)
    asked = levels(groups) if thresholds is None else sorted(thresholds, reverse=True)
    return Comparison(
        title=title,
        by=tuple(by),
        groups=tuple(groups),
        reference=chosen,
        thresholds=tuple(asked),
        axes={axis: _on_axis(groups, axis, chosen, asked) for axis in AXES},
        left_out=tuple(left_out),
        broken=tuple(broken),
        mixed=tuple(mixed),
    )


def _named(groups: Sequence[Group], reference: str) -> Group:
    """The group of that name or label, or the only one of the scheduler of that name."""
    for group in groups:
        if reference in (group.name, group.label):
            return group
    of_scheduler = [group for group in groups if group.name.split()[0] == reference]
    if len(of_scheduler) == 1:
        return of_scheduler[0]
    names = ", ".join(group.name for group in groups)
    raise UsageError(f"--reference {reference}: there is no such group; there are {names}")


Norms = dict[Block, float]


def _on_axis(
    groups: Sequence[Group], axis: str, reference: Group, thresholds: Sequence[float]
) -> AxisComparison:
    budget = common_budget([run for group in groups for run in group.runs], axis)
    norms = [
        {block: norm_at(run, axis, budget) for block, run in group.members.items()}
        for group in groups
    ]
    found = [group_costs(group, axis, thresholds) for group in groups]
    over_seeds = [summaries(_by_seed(norm)[None])[0] for norm in norms]
    order = sorted(range(len(groups)), key=lambda number: over_seeds[number].mean)
    against = next(number for number, group in enumerate(groups) if group is reference)
    standings = tuple(
        _standing(groups, number, over_seeds[number], norms, found, thresholds, order[0], against)
        for number in range(len(groups))
    )
    duel = duel_of(norms[order[0]], norms[order[1]]) if len(groups) > 1 else None
    return AxisComparison(axis, budget, standings, tuple(order), duel)


def _standing(
    groups: Sequence[Group],
    number: int,
    summary: Summary,
    norms: Sequence[Norms],
    found: Sequence[Costs],
    thresholds: Sequence[float],
    best: int,
    reference: int,
) -> GroupResult:
    own = norms[number]
    same = number == reference
    return GroupResult(
        group=groups[number],
        norm=summary,
        against_best=None if number == best else duel_of(own, norms[best]),
        against_reference=None if same else duel_of(own, norms[reference]),
        reach=tuple(times_to_target(found[number], thresholds)),
        speed_up=() if same else tuple(speed_ups(found[number], found[reference], thresholds)),
        ratios=() if same else _ratios(own, norms[reference]),
    )


def _by_seed(norms: Norms) -> FloatArray:
    return over_seeds(np.array(list(norms.values())), [seed for seed, _ in norms])


def _pairs(first: Norms, second: Norms) -> tuple[FloatArray, FloatArray]:
    """Values of the common seeds, averaged over what else was paired within a seed."""
    common = [block for block in first if block in second]
    own, other = ({block: norms[block] for block in common} for norms in (first, second))
    return (_by_seed(own), _by_seed(other))


def _ratios(own: Norms, reference: Norms) -> tuple[float, ...]:
    return tuple(
        float(first / second) if second else math.nan
        for first, second in zip(*_pairs(own, reference), strict=True)
    )


def duel_of(first: Norms, second: Norms) -> Paired | None:
    """Two groups on their common seeds; None where they have none."""
    return paired(*_pairs(first, second))
