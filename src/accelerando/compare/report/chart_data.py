"""The data that the report's figures are drawn from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from accelerando.compare.align import (
    AXES,
    GRID,
    NORM,
    Curve,
    FloatArray,
    curve,
    mean_position,
    same_steps,
)
from accelerando.compare.comparison import Comparison, GroupResult
from accelerando.compare.groups import Group
from accelerando.plotting import GroupStyle, group_styles

VISIBLE = 8
"""Number of groups drawn when the report opens; a click shows the others."""
MANY = 12
"""Number of groups above which curves have fewer points, to keep the file small."""
_LINE_WIDTH = 1.8
_SYMBOLS = {
    "": "",
    "s": "square",
    "D": "diamond",
    "P": "cross",
    "X": "x",
    "*": "star",
    "h": "hexagon",
}
"""Plotly's names for the markers of ``GroupStyle``."""
_COLUMNS = {
    "norm": (NORM, True),
    "raw": (NORM, False),
    "loss": ("empirical_loss", False),
    "accuracy": ("test_accuracy", False),
    "batch": ("batch_size", False),
    "rate": ("learning_rate", False),
}
"""Column of the record, and whether to take its minimum so far."""


def chart_data(comparison: Comparison, axis: str = "epochs") -> dict[str, Any]:
    """Return curves, ratios and speed-ups as JSON types; the best on ``axis`` are visible."""
    styles = group_styles(comparison.names)
    best = comparison.axes[axis].order[:VISIBLE]
    points = GRID if len(comparison.groups) <= MANY else GRID // 3
    reference = comparison.groups.index(comparison.reference)
    return {
        "axes": list(AXES),
        "budgets": {axis: _round(on.budget, 7) for axis, on in comparison.axes.items()},
        "thresholds": list(comparison.thresholds),
        "reference": reference,
        "groups": [
            {
                "label": group.label,
                **_style(styles[group.name]),
                "visible": number in best or number == reference,
                "curves": _curves(group, points),
                "ratios": {a: _ratios(on.standings[number]) for a, on in comparison.axes.items()},
                "speedups": {
                    a: _speedups(on.standings[number]) for a, on in comparison.axes.items()
                },
            }
            for number, group in enumerate(comparison.groups)
        ],
    }


def dash_lengths(style: GroupStyle) -> list[str]:
    """Return the lengths of a dash pattern in pixels.

    >>> dash_lengths(GroupStyle("#000000", (5.0, 1.5), ""))
    ['9', '2.7']
    """
    return [f"{_LINE_WIDTH * length:.3g}" for length in style.dash]


def _style(style: GroupStyle) -> dict[str, str]:
    dash = ",".join(f"{length}px" for length in dash_lengths(style)) or "solid"
    return {"color": style.colour, "dash": dash, "symbol": _SYMBOLS[style.mark]}


def _curves(group: Group, points: int) -> list[dict[str, Any]]:
    """Return curves with the axes they belong to: one for all if the runs share their steps."""
    aligned = same_steps(group)
    result = []
    for axes in [list(AXES)] if aligned else [[axis] for axis in AXES]:
        curves = {
            name: curve(group, column, axes[0], minimum=minimum)
            for name, (column, minimum) in _COLUMNS.items()
        }
        x = {axis: mean_position(group, axis) if aligned else curves["norm"].x for axis in axes}
        length = len(curves["norm"].x)
        kept = np.linspace(0, length - 1, min(length, points)).round().astype(np.int64)
        result.append(
            {
                "x": {axis: _rounded(positions[kept], 7) for axis, positions in x.items()},
                "y": {name: _band(line, kept) for name, line in curves.items()},
            }
        )
    return result


def _band(line: Curve, kept: npt.NDArray[np.int64]) -> dict[str, list[float | None]]:
    mean, low, high = line.mean[kept], line.lowest[kept], line.highest[kept]
    band = {"mean": _rounded(mean, 4)}
    if not np.array_equal(low, high, equal_nan=True):
        band |= {"low": _rounded(low, 4), "high": _rounded(high, 4)}
    return band


def _ratios(result: GroupResult) -> dict[str, Any] | None:
    versus = result.against_reference
    if versus is None or math.isnan(versus.ratio):
        return None
    return {
        "mean": _round(versus.ratio, 5),
        "low": _round(versus.ratio_low, 5),
        "high": _round(versus.ratio_high, 5),
        "seeds": _rounded(np.array(result.ratios), 4),
    }


def _speedups(result: GroupResult) -> list[dict[str, Any]]:
    return [
        {
            "threshold": speedup.threshold,
            "factor": _round(speedup.factor, 5),
            "low": _round(speedup.low, 5),
            "high": _round(speedup.high, 5),
            "bound": speedup.bound,
        }
        for speedup in result.speed_up
        if speedup.telling
    ]


def _rounded(values: FloatArray, digits: int) -> list[float | None]:
    return [_round(value, digits) for value in values.tolist()]


def _round(value: float, digits: int) -> float | None:
    """Round to a few significant digits: more are not visible and would enlarge the file."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short
