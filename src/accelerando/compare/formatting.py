"""Numbers and intervals as text."""

from __future__ import annotations

import math

from accelerando.compare.comparison import AxisComparison
from accelerando.compare.statistics import Summary


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
