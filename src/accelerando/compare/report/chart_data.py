"""The data that the report's figures are drawn from."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from accelerando.compare.align import (
    AXES,
    MAX_POINTS,
    NORM,
    Curve,
    mean_curve,
    mean_positions,
    share_steps,
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
    best = [result.group for result in comparison.axes[axis].ranked[:VISIBLE]]
    points = MAX_POINTS if len(comparison.groups) <= MANY else MAX_POINTS // 3
    styles = group_styles(comparison.names)
    axes = comparison.axes.items()
    return {
        "axes": list(AXES),
        "budgets": {axis: _compact(on.budget, 7) for axis, on in axes},
        "thresholds": list(comparison.thresholds),
        "reference": comparison.groups.index(comparison.reference),
        "groups": [
            {
                "label": group.label,
                **_style(styles[group.name]),
                "visible": group in (*best, comparison.reference),
                "curves": _curves(group, points),
                "ratios": {axis: _ratios(on.results[number]) for axis, on in axes},
                "speedups": {axis: _speedups(on.results[number]) for axis, on in axes},
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
    aligned = share_steps(group)
    result = []
    for axes in [list(AXES)] if aligned else [[axis] for axis in AXES]:
        curves = {
            name: mean_curve(group, column, axes[0], minimum=minimum)
            for name, (column, minimum) in _COLUMNS.items()
        }
        x = {axis: mean_positions(group, axis) if aligned else curves["norm"].x for axis in axes}
        length = len(curves["norm"].x)
        kept = np.linspace(0, length - 1, min(length, points)).round().astype(np.int64)
        result.append(
            {
                "x": {axis: _compact(positions[kept].tolist(), 7) for axis, positions in x.items()},
                "y": {
                    name: _band(Curve(*(part[kept] for part in c))) for name, c in curves.items()
                },
            }
        )
    return result


def _band(curve: Curve) -> dict[str, Any]:
    band = {"mean": curve.mean}
    if not np.array_equal(curve.lowest, curve.highest, equal_nan=True):
        band |= {"low": curve.lowest, "high": curve.highest}
    return {name: _compact(values.tolist(), 4) for name, values in band.items()}


def _ratios(result: GroupResult) -> dict[str, Any] | None:
    test = result.vs_reference
    if test is None or math.isnan(test.ratio):
        return None
    return {
        "seeds": _compact(list(result.ratios)),
        "mean": _compact(test.ratio),
        "low": _compact(test.ratio_low),
        "high": _compact(test.ratio_high),
    }


def _speedups(result: GroupResult) -> list[dict[str, Any]]:
    return [
        {name: _compact(value) for name, value in asdict(speedup).items()}
        for speedup in result.speedups
        if speedup.informative
    ]


def _compact(value: Any, digits: int = 5) -> Any:
    """Round to significant digits, as more are not visible; NaN and infinity become None."""
    if isinstance(value, list):
        return [_compact(item, digits) for item in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
