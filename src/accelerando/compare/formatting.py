"""Numbers, intervals and table cells as text."""

from __future__ import annotations

import math

from accelerando.compare.comparison import AxisComparison, GroupResult
from accelerando.compare.statistics import PairedTest, Summary
from accelerando.compare.thresholds import AT_LEAST, AT_MOST, EXACT, Speedup, TimeToTarget

_BOUND_SIGNS = {EXACT: "", AT_LEAST: "≥ ", AT_MOST: "≤ "}


def format_number(value: float) -> str:
    """Format a number with three significant digits.

    >>> [format_number(v) for v in (0.0012345, 2.0, 12345.6, math.inf, math.nan)]
    ['0.00123', '2', '12,346', 'never', '–']
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def format_ratio(value: float) -> str:
    """Format a ratio like ``format_number``, but near 1 with two digits of its distance from 1.

    >>> [format_ratio(v) for v in (1.00123, 0.9988, 1.25, 1.0)]
    ['1.0012', '0.9988', '1.25', '1']
    """
    distance = abs(value - 1)
    if not 1e-6 < distance < 0.1:
        return format_number(value)
    return f"{value:.{1 - math.floor(math.log10(distance))}f}".rstrip("0")


def format_interval(low: float, high: float) -> str:
    """Format an interval of ratios for a sentence."""
    return f"95 % interval {format_ratio(low)} to {format_ratio(high)}"


def format_mean(summary: Summary) -> str:
    """Format a mean with its interval, if it has one, for a sentence."""
    mean = format_number(summary.mean)
    if math.isnan(summary.low):
        return mean
    low, high = format_number(summary.low), format_number(summary.high)
    return f"{mean} (95 % interval {low} to {high})"


def format_budget(on: AxisComparison) -> str:
    """Format the common budget of an axis."""
    if on.axis == "seconds":
        return f"{format_number(on.budget)} s"
    return f"{on.budget:,.0f}"


def summary_cell(summary: Summary, scale: float = 1) -> str:
    """Format a mean, with its interval on a second line."""
    mean = format_number(scale * summary.mean)
    if math.isnan(summary.low) or summary.low == summary.high:
        return mean
    return f"{mean}\n{format_number(scale * summary.low)}-{format_number(scale * summary.high)}"


def ratio_cell(test: PairedTest | None, *, best: bool) -> str:
    """Format how many times the best group's norm a norm is, with the interval below."""
    if best:
        return "1"
    if test is None:
        return "–"
    ratio = format_ratio(test.ratio)
    if test.count < 2 or math.isnan(test.ratio):
        return ratio
    return f"{ratio}\n{format_ratio(test.ratio_low)}-{format_ratio(test.ratio_high)}"


def threshold_cells(result: GroupResult) -> list[str]:
    """Format the cost of each threshold, with the speed-up over the reference below."""
    costs = [_cost(time) for time in result.times_to_target]
    if not result.speedups:
        return costs
    return [
        f"{cost}\n{_speedup(speedup)}" for cost, speedup in zip(costs, result.speedups, strict=True)
    ]


def _cost(time: TimeToTarget) -> str:
    """Format the median cost, with the share of runs that reached the threshold if not all did."""
    if time.reached == time.runs:
        return format_number(time.median)
    median = time.median
    text = f"> {format_number(time.ended)}" if math.isinf(median) else format_number(median)
    return f"{text} ({time.reached}/{time.runs})"


def _speedup(speedup: Speedup) -> str:
    if speedup.bound not in _BOUND_SIGNS:
        return "–"
    text = f"{_BOUND_SIGNS[speedup.bound]}{format_ratio(speedup.factor)}×"
    if speedup.bound == EXACT and not math.isnan(speedup.low):
        text += f"\n{format_ratio(speedup.low)}-{format_ratio(speedup.high)}"
    return text
