"""What it costs to bring the norm below a level, and how many times less than in another group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelerando.compare.align import NORM, FloatArray, column, position, running_min
from accelerando.compare.groups import Block, Group
from accelerando.compare.load import Run
from accelerando.compare.statistics import interval, over_seeds

MOST = 6
"""Levels that a table has room for."""
EXACT, AT_LEAST, AT_MOST, UNKNOWN = "exact", "at least", "at most", "unknown"


@dataclass(frozen=True)
class TimeToTarget:
    """Cost of a level in one group.

    Args:
        threshold: the level.
        runs: of the group.
        reached: those that came below it; the others are censored at their end.
        median: over all seeds, infinite where fewer than half reached it. Of several runs of one
            seed their mean cost counts, infinite where any did not reach it.
        lowest: least cost; ``highest`` the largest, infinite where any seed did not reach it.
        ended: where the first of the censored runs ended, infinite where there is none.
    """

    threshold: float
    runs: int
    reached: int
    median: float
    lowest: float
    highest: float
    ended: float


@dataclass(frozen=True)
class SpeedUp:
    """How many times less a group needs than the reference for the same level.

    Args:
        threshold: the level.
        pairs: common seeds in which at least one of the two reached it.
        censored: those of them in which one of the two did not.
        factor: geometric mean over the seeds of reference's cost / group's cost; where a run never
            reached the level its last cost stands for it.
        low: lower end of its bootstrap interval; NaN where nothing bounds it. ``high`` likewise.
        bound: what ``factor`` is: "exact", "at least", "at most" or "unknown".
    """

    threshold: float
    pairs: int
    censored: int
    factor: float
    low: float
    high: float
    bound: str

    @property
    def telling(self) -> bool:
        """Whether it says anything: that a factor is at least 0.4 leaves open who is quicker."""
        if self.bound in (AT_LEAST, AT_MOST):
            return self.factor > 1 if self.bound == AT_LEAST else self.factor < 1
        return self.bound == EXACT


def levels(groups: Sequence[Group]) -> list[float]:
    """Round levels between the runs' first norms and the lowest of all, the largest first.

    They are 1, 2 and 5 times powers of ten, or every digit, or steps of two digits, where that
    gives too few.
    """
    norms = [running_min(column(run, NORM)) for group in groups for run in group.runs]
    start = min(float(norm[0]) for norm in norms)
    end = min(float(norm[-1]) for norm in norms)
    if not 0 < end < start:
        return []
    inside = _round_numbers(end, start, (1, 2, 5))
    if len(inside) < 3:
        inside = _round_numbers(end, start, range(1, 10))
    if not inside:
        inside = _round_numbers(end, start, [digit / 10 for digit in range(10, 100)])
    if len(inside) <= MOST:
        return inside
    keep = np.linspace(0, len(inside) - 1, MOST).round().astype(int)
    return [inside[number] for number in keep]


def _round_numbers(end: float, start: float, digits: Sequence[float]) -> list[float]:
    decades = range(math.floor(math.log10(end)), math.ceil(math.log10(start)) + 1)
    # through text, so that 2 times 10^-3 is 0.002 and not 0.0020000000000000005
    every = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
    return sorted((level for level in every if end <= level < start), reverse=True)


def costs(run: Run, axis: str, thresholds: Sequence[float]) -> FloatArray:
    """Where on ``axis`` the norm was first measured at or below each level; infinite for never.

    Shape (thresholds,). Costs are rounded up to the next measurement: nothing is interpolated.
    """
    norm, place = running_min(column(run, NORM)), position(run, axis)
    # the minimum so far falls, and a sorted search wants what rises
    first = np.searchsorted(-norm, -np.asarray(thresholds, dtype=np.float64), side="left")
    return np.append(place, np.inf)[first]


Costs = dict[Block, tuple[FloatArray, float]]
"""Of each run of a group: the cost of each level, and the place where it ended."""


def group_costs(group: Group, axis: str, thresholds: Sequence[float]) -> Costs:
    """Costs of every run of a group."""
    return {
        block: (costs(run, axis, thresholds), float(position(run, axis)[-1]))
        for block, run in group.members.items()
    }


def times_to_target(found: Costs, thresholds: Sequence[float]) -> list[TimeToTarget]:
    """What each level costs in a group."""
    table = np.stack([cost for cost, _ in found.values()])
    ends = np.array([end for _, end in found.values()])
    over = over_seeds(table, [seed for seed, _ in found])
    return [
        TimeToTarget(
            threshold=threshold,
            runs=len(table),
            reached=int(np.isfinite(row).sum()),
            median=float(_median(cost)),
            lowest=float(cost.min()),
            highest=float(cost.max()),
            ended=float(np.min(ends[np.isinf(row)], initial=np.inf)),
        )
        for threshold, row, cost in zip(thresholds, table.T, over.T, strict=True)
    ]


def _median(values: FloatArray) -> float:
    """As numpy's, which makes NaN of two infinities."""
    ordered = np.sort(values)
    low, high = ordered[(len(values) - 1) // 2], ordered[len(values) // 2]
    return float(high) if np.isinf(high) else float((low + high) / 2)


def speed_ups(group: Costs, reference: Costs, thresholds: Sequence[float]) -> list[SpeedUp]:
    """Factors by which ``group`` is quicker than ``reference``, on their common seeds."""
    common = [block for block in group if block in reference]
    seeds = np.array([seed for seed, _ in common], dtype=np.int64)
    own, other = (_Side([costs[block] for block in common]) for costs in (group, reference))
    return [
        _speed_up(threshold, seeds, own.at(number), other.at(number))
        for number, threshold in enumerate(thresholds)
    ]


class _At(NamedTuple):
    """Costs of one level, shape (pairs,), with the last cost where it was never reached."""

    cost: FloatArray
    late: npt.NDArray[np.bool_]


class _Side:
    def __init__(self, found: Sequence[tuple[FloatArray, float]]) -> None:
        self._costs = [cost for cost, _ in found]
        self._ends = np.array([end for _, end in found])

    def at(self, number: int) -> _At:
        cost = np.array([costs[number] for costs in self._costs])
        return _At(np.where(np.isinf(cost), self._ends, cost), np.isinf(cost))


def _speed_up(threshold: float, seeds: npt.NDArray[np.int64], own: _At, other: _At) -> SpeedUp:
    # a level reached before the first step costs nothing, and has no ratio
    known = (own.cost > 0) & (other.cost > 0) & ~(own.late & other.late)
    one = (own.late ^ other.late) & known
    pairs, censored = len(set(seeds[known])), len(set(seeds[one]))
    early, late = bool((own.late & one).any()), bool((other.late & one).any())
    if not known.any() or (own.late & other.late).any() or (early and late):
        return SpeedUp(threshold, pairs, censored, math.nan, math.nan, math.nan, UNKNOWN)
    logs = over_seeds(np.log(other.cost[known] / own.cost[known]), seeds[known].tolist())
    low, high = (float(np.exp(end)) for end in interval(logs))
    bound = AT_LEAST if late else AT_MOST if early else EXACT
    return SpeedUp(
        threshold=threshold,
        pairs=pairs,
        censored=censored,
        factor=float(np.exp(logs.mean())),
        # what is bounded from one side has an interval that is open to the other
        low=math.nan if bound == AT_MOST else low,
        high=math.nan if bound == AT_LEAST else high,
        bound=bound,
    )
