"""The cost of reducing the norm to a threshold, and speed-ups over a reference group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accelerando.compare.align import NORM, column, positions, running_min, thin_out
from accelerando.compare.groups import Group, PairKey
from accelerando.compare.load import Run
from accelerando.compare.statistics import FloatArray, bootstrap_interval, mean_per_seed

MAX_THRESHOLDS = 6
"""Number of thresholds that fit into a table."""
EXACT, AT_LEAST, AT_MOST, UNKNOWN = "exact", "at least", "at most", "unknown"


@dataclass(frozen=True)
class TimeToTarget:
    """The cost of a threshold in one group.

    ``median``, ``lowest`` and ``highest`` are over seeds. Several runs of one seed count as their
    mean cost, infinite if one of them did not reach the threshold.

    Args:
        runs: number of runs of the group.
        reached: number of runs that reached it; the others are censored at their end.
        ended: where the first censored run ended, infinite if there is none.
    """

    threshold: float
    runs: int
    reached: int
    median: float
    lowest: float
    highest: float
    ended: float


@dataclass(frozen=True)
class Speedup:
    """How many times less a group needs than the reference to reach a threshold.

    Args:
        pairs: number of common seeds in which at least one of the two reached it.
        censored: number of them in which only one did.
        factor: geometric mean over seeds of the reference's cost / the group's cost; the cost of a
            run that never reached the threshold is the position where it ended.
        low: lower end of the bootstrap interval, NaN if unbounded, like ``high``.
        bound: meaning of ``factor``: "exact", "at least", "at most" or "unknown".
    """

    threshold: float
    pairs: int
    censored: int
    factor: float
    low: float
    high: float
    bound: str

    @property
    def informative(self) -> bool:
        """Whether it is exact, or a bound that shows which group is faster."""
        if self.bound == AT_LEAST:
            return self.factor > 1
        if self.bound == AT_MOST:
            return self.factor < 1
        return self.bound == EXACT


def default_thresholds(groups: Sequence[Group]) -> list[float]:
    """Return round norms between the smallest first and the smallest last one, descending.

    They are 1, 2 and 5 times powers of ten; if those are too few, all digits or two digits.
    """
    norms = [running_min(column(run, NORM)) for group in groups for run in group.runs]
    start = min(float(norm[0]) for norm in norms)
    end = min(float(norm[-1]) for norm in norms)
    if not 0 < end < start:
        return []
    thresholds = _round_numbers(end, start, (1, 2, 5))
    if len(thresholds) < 3:
        thresholds = _round_numbers(end, start, range(1, 10))
    if not thresholds:
        thresholds = _round_numbers(end, start, [digit / 10 for digit in range(10, 100)])
    return list(map(float, thin_out(np.array(thresholds), MAX_THRESHOLDS)))


def _round_numbers(end: float, start: float, digits: Sequence[float]) -> list[float]:
    decades = range(math.floor(math.log10(end)), math.ceil(math.log10(start)) + 1)
    # parsed from text: 2 * 10**-3 is 0.0020000000000000005 in floating point
    numbers = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
    return sorted((number for number in numbers if end <= number < start), reverse=True)


def costs_to_reach(run: Run, axis: str, thresholds: Sequence[float]) -> FloatArray:
    """Return where on ``axis`` the norm was first measured at or below each threshold, or infinity.

    Nothing is interpolated.
    """
    norm, x = running_min(column(run, NORM)), positions(run, axis)
    # searchsorted needs ascending values, and the minimum so far descends
    first = np.searchsorted(-norm, -np.asarray(thresholds, dtype=np.float64), side="left")
    return np.append(x, np.inf)[first]


Costs = dict[PairKey, tuple[FloatArray, float]]
"""For each run of a group: the cost of each threshold, and the position where the run ended."""


def group_costs(group: Group, axis: str, thresholds: Sequence[float]) -> Costs:
    """Return the costs of all runs of a group."""
    return {
        key: (costs_to_reach(run, axis, thresholds), float(positions(run, axis)[-1]))
        for key, run in group.members.items()
    }


def times_to_target(costs: Costs, thresholds: Sequence[float]) -> list[TimeToTarget]:
    """Summarize the costs of a group for each threshold."""
    table = np.stack([cost for cost, _ in costs.values()])
    ends = np.array([end for _, end in costs.values()])
    per_seed = mean_per_seed(table, [seed for seed, _ in costs])
    return [
        TimeToTarget(
            threshold=threshold,
            runs=len(table),
            reached=int(np.isfinite(of_runs).sum()),
            median=_median(of_seeds),
            lowest=float(of_seeds.min()),
            highest=float(of_seeds.max()),
            ended=float(np.min(ends[np.isinf(of_runs)], initial=np.inf)),
        )
        for threshold, of_runs, of_seeds in zip(thresholds, table.T, per_seed.T, strict=True)
    ]


def _median(values: FloatArray) -> float:
    """Return the median; unlike NumPy's, that of two infinities is not NaN."""
    upper = np.sort(values)[len(values) // 2]
    return math.inf if np.isinf(upper) else float(np.median(values))


def speedups(group: Costs, reference: Costs, thresholds: Sequence[float]) -> list[Speedup]:
    """Return the speed-ups of a group over the reference on their common seeds."""
    common = [key for key in group if key in reference]
    seeds = np.array([seed for seed, _ in common], dtype=np.int64)
    both = [[costs[key] for key in common] for costs in (group, reference)]
    shape = (2, len(common), len(thresholds))
    costs = np.reshape([[cost for cost, _ in side] for side in both], shape)
    ends = np.reshape([[end for _, end in side] for side in both], (*shape[:2], 1))
    return [
        _speedup(threshold, seeds, costs[..., number], ends[..., 0])
        for number, threshold in enumerate(thresholds)
    ]


def _speedup(
    threshold: float, seeds: npt.NDArray[np.int64], costs: FloatArray, ends: FloatArray
) -> Speedup:
    """Return the speed-up at one threshold; costs and ends have shape (2, pairs)."""
    censored = np.isinf(costs)
    neither_reached = censored.all(axis=0)
    own, other = np.where(censored, ends, costs)
    # a threshold reached before the first step costs nothing, and has no ratio
    known = (own > 0) & (other > 0) & ~neither_reached
    one_reached = known & censored.any(axis=0)
    is_upper, is_lower = (censored & one_reached).any(axis=1)
    factor = low = high = math.nan
    if not known.any() or neither_reached.any() or (is_upper and is_lower):
        bound = UNKNOWN
    else:
        bound = AT_LEAST if is_lower else AT_MOST if is_upper else EXACT
        logs = mean_per_seed(np.log(other[known] / own[known]), seeds[known].tolist())
        factor = float(np.exp(logs.mean()))
        # the interval of a bound is open on the other side
        low, high = (
            math.nan if bound == open_if else float(np.exp(end))
            for open_if, end in zip((AT_MOST, AT_LEAST), bootstrap_interval(logs), strict=True)
        )
    pairs, one_censored = len(set(seeds[known])), len(set(seeds[one_reached]))
    return Speedup(threshold, pairs, one_censored, factor, low, high, bound)
