"""The cost of reducing the norm to a threshold, and speed-ups over a reference group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accelerando.compare.align import NORM, column, positions, running_min, thin_out
from accelerando.compare.groups import Group, PairKey, pair_keys
from accelerando.compare.load import Run
from accelerando.compare.statistics import (
    FloatArray,
    bootstrap_interval,
    lower_bound,
    mean_per_seed,
    median,
)

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
    """The reference's cost of reaching a threshold divided by the group's.

    Args:
        pairs: number of common seeds in which at least one of the two reached it.
        censored: number of them in which only one did.
        factor: if "exact", the geometric mean over seeds of the reference's cost / the group's
            cost; if "at least" or "at most", an end of a 95 % interval of its median.
        low: lower end of the bootstrap interval of an exact factor, like ``high``; else NaN.
        bound: meaning of ``factor``: "exact", "at least", "at most" or "unknown".
    """

    threshold: float
    pairs: int
    censored: int
    factor: float
    low: float
    high: float
    bound: str


def recorded_thresholds(groups: Sequence[Group]) -> list[float]:
    """Return the thresholds that every run recorded in its settings, before its first step."""
    recorded = [run.config.get("tracking.thresholds") for group in groups for run in group.runs]
    first = recorded[0] if isinstance(recorded[0], list) else []
    return [value for value in first if all(value in (other or []) for other in recorded)]


def default_thresholds(groups: Sequence[Group]) -> list[float]:
    """Return norms between the smallest first and the smallest last one, descending.

    They are the recorded ones and some round numbers: 1, 2 and 5 times powers of ten; if those are
    too few, steps of one digit, or of two digits.
    """
    norms = [running_min(column(run, NORM)) for group in groups for run in group.learned.values()]
    start = min(float(norm[0]) for norm in norms)
    end = min(float(norm[-1]) for norm in norms)
    if not 0 < end < start:
        return []
    thresholds = _round_numbers(end, start, (1, 2, 5))
    if len(thresholds) < 3:
        thresholds = _round_numbers(end, start, range(1, 10))
    if not thresholds:
        thresholds = _round_numbers(end, start, [digit / 10 for digit in range(10, 100)])
    recorded = [value for value in recorded_thresholds(groups) if end <= value < start]
    thinned = thin_out(np.array(thresholds), max(0, MAX_THRESHOLDS - len(recorded)))
    return sorted({*map(float, thinned), *recorded}, reverse=True)


def _round_numbers(end: float, start: float, digits: Sequence[float]) -> list[float]:
    decades = range(math.floor(math.log10(end)), math.ceil(math.log10(start)) + 1)
    # parsed from text: 2 * 10**-3 is 0.0020000000000000005 in floating point
    numbers = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
    return sorted((number for number in numbers if end <= number < start), reverse=True)


def costs_to_reach(run: Run, axis: str, thresholds: Sequence[float]) -> FloatArray:
    """Return where on ``axis`` the norm was first measured at or below each threshold, or infinity.

    A run that failed never reaches any, and the norm before training is no result. Nothing is
    interpolated.
    """
    if run.failed:
        return np.full(len(thresholds), np.inf)
    trained = positions(run, "steps") > 0
    norms = np.where(trained, np.nan_to_num(column(run, NORM), nan=np.inf), np.inf)
    norm, x = running_min(norms), positions(run, axis)
    # searchsorted needs ascending values, and the minimum so far descends
    first = np.searchsorted(-norm, -np.asarray(thresholds, dtype=np.float64), side="left")
    return np.append(x, np.inf)[first]


Costs = dict[PairKey, tuple[FloatArray, float]]
"""For each run of a group: the cost of each threshold, and the position where the run ended, which
is infinite for a run that failed: it would never have reached it."""


def group_costs(group: Group, axis: str, thresholds: Sequence[float]) -> Costs:
    """Return the costs of all runs of a group."""
    return {
        key: (
            costs_to_reach(run, axis, thresholds),
            math.inf if run.failed else float(positions(run, axis)[-1]),
        )
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
            median=median(of_seeds),
            lowest=float(of_seeds.min()),
            highest=float(of_seeds.max()),
            ended=float(np.min(ends[np.isinf(of_runs)], initial=np.inf)),
        )
        for threshold, of_runs, of_seeds in zip(thresholds, table.T, per_seed.T, strict=True)
    ]


def speedups(group: Costs, reference: Costs, thresholds: Sequence[float]) -> list[Speedup]:
    """Return the speed-ups of a group over the reference on their common seeds."""
    pairs = pair_keys(group, reference)
    seeds = [seed for (seed, _), _ in pairs]
    sides = [(group[own], reference[other]) for own, other in pairs]
    shape = (len(pairs), 2, len(thresholds))
    costs = np.reshape([[cost for cost, _ in pair] for pair in sides], shape)
    ends = np.reshape([[end for _, end in pair] for pair in sides], (len(pairs), 2))
    return [
        _speedup(threshold, seeds, costs[..., number].T, ends.T)
        for number, threshold in enumerate(thresholds)
    ]


def _speedup(
    threshold: float, seeds: Sequence[int], costs: FloatArray, ends: FloatArray
) -> Speedup:
    """Return the speed-up at one threshold; costs and ends have shape (2, pairs)."""
    seed_of_pair = np.asarray(seeds, dtype=np.int64)
    own, other = costs
    reached = np.isfinite(costs)
    own_end, other_end = np.where(reached, costs, ends)
    known, censored = reached.any(axis=0), reached.any(axis=0) & ~reached.all(axis=0)
    factor = low = high = math.nan
    bound = UNKNOWN
    if seeds and reached.all():
        logs = mean_per_seed(np.log(other / own), seed_of_pair.tolist())
        bound, factor = EXACT, float(np.exp(logs.mean()))
        low, high = (float(np.exp(end)) for end in bootstrap_interval(logs))
    else:
        at_least, at_most = (
            lower_bound(_lowest_per_seed(ratios, seed_of_pair))
            for ratios in (_lower_ratios(other_end, own), _lower_ratios(own_end, other))
        )
        if 1 < at_least < math.inf:  # infinite if the reference failed, which has no ratio
            bound, factor = AT_LEAST, at_least
        elif 1 < at_most < math.inf:
            bound, factor = AT_MOST, 1 / at_most
    return Speedup(
        threshold=threshold,
        pairs=len(set(seed_of_pair[known])),
        censored=len(set(seed_of_pair[censored])),
        factor=factor,
        low=low,
        high=high,
        bound=bound,
    )


def _lower_ratios(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return lower bounds of ratios: 0 if the denominator is not known to be finite."""
    result = np.zeros(len(numerator))
    np.divide(numerator, denominator, out=result, where=np.isfinite(denominator))
    return result


def _lowest_per_seed(values: FloatArray, seeds: npt.NDArray[np.int64]) -> FloatArray:
    return np.array([values[seeds == seed].min() for seed in np.unique(seeds)])
