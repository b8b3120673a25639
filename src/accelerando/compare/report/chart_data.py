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
from accelerando.compare.thresholds import UNKNOWN
from accelerando.plotting import GroupStyle, group_styles

VISIBLE = 8
"""Number of groups drawn when the report opens; a click shows the others."""
MANY = 12
"""Number of groups above which curves have fewer points, to keep the file small."""
_LINE_WIDTH = 1.8
PLOTLY_MARKERS = {
    "": ("", ""),
    "s": ("square", "M-3.5-3.5h7v7h-7Z"),
    "D": ("diamond", "M0-5L5 0L0 5L-5 0Z"),
    "P": ("cross", "M-1.6-5h3.2v3.4H5v3.2H1.6V5h-3.2V1.6H-5v-3.2h3.4Z"),
    "X": ("x", "M-5-2l3-3l2 2l2-2l3 3l-3 2l3 2l-3 3l-2-2l-2 2l-3-3l3-2Z"),
    "*": ("star", "M0-6L1.4-1.9H5.7L2.3.7L3.5 4.9L0 2.4L-3.5 4.9L-2.3.7L-5.7-1.9H-1.4Z"),
    "h": ("hexagon", "M0-5L4.3-2.5V2.5L0 5L-4.3 2.5V-2.5Z"),
}
"""Plotly's name and an SVG outline, centred on the origin, of each marker of ``GroupStyle``."""
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
    return {"color": style.colour, "dash": dash, "symbol": PLOTLY_MARKERS[style.mark][0]}


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
    return [
        json_value(asdict(speedup), 5) for speedup in result.speedups if speedup.bound != UNKNOWN
    ]
