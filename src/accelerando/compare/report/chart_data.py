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
    share_steps,
    thin_out,
)
from accelerando.compare.comparison import Comparison, GroupResult
from accelerando.compare.export import json_value
from accelerando.compare.groups import Group
from accelerando.plotting import GroupStyle, group_styles

VISIBLE = 8
"""Number of groups drawn when the report opens; a click shows the others."""
MANY = 12
"""Number of groups above which curves have fewer points, to keep the file small."""
_LINE_WIDTH = 1.8
_SYMBOLS = {
    "": "", "s": "square", "D": "diamond", "P": "cross", "X": "x", "*": "star", "h": "hexagon"
}  # fmt: skip
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
        "budgets": {axis: json_value(on.budget, 7) for axis, on in axes},
        "thresholds": comparison.thresholds,
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

    def x(axis: str) -> list[float]:
        positions = mean_curve(group, NORM, axis).x
        return json_value(thin_out(positions, points).tolist(), 7)  # type: ignore[no-any-return]

    return [
        {
            "x": {axis: x(axis) for axis in axes},
            "y": {
                name: _band(mean_curve(group, column, axes[0], minimum=minimum), points)
                for name, (column, minimum) in _COLUMNS.items()
            },
        }
        for axes in ([list(AXES)] if share_steps(group) else [[axis] for axis in AXES])
    ]


def _band(curve: Curve, points: int) -> dict[str, Any]:
    _, *band = (thin_out(values, points) for values in curve)
    if np.array_equal(band[1], band[2], equal_nan=True):
        del band[1:]
    return {
        name: json_value(values.tolist(), 4)
        for name, values in zip(("mean", "low", "high"), band, strict=False)
    }


def _ratios(result: GroupResult) -> dict[str, Any] | None:
    test = result.vs_reference
    if test is None or math.isnan(test.ratio):
        return None
    values = {"mean": test.ratio, "low": test.ratio_low, "high": test.ratio_high}
    return json_value({"seeds": result.ratios} | values, 5)  # type: ignore[no-any-return]


def _speedups(result: GroupResult) -> list[dict[str, Any]]:
    return [json_value(asdict(speedup), 5) for speedup in result.speedups if speedup.informative]
