"""What the report's figures are drawn from."""

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
from accelerando.compare.report.svg_swatch import dasharray, mark_path
from accelerando.plotting import group_styles

Places = npt.NDArray[np.int64]

SHOWN = 8
"""Groups that are drawn when the report opens; the others wait for a click."""
MANY = 12
"""Groups beyond which curves are thinned, so that the file stays small."""
_COLUMNS = {
    "norm": (NORM, True),
    "raw": (NORM, False),
    "loss": ("empirical_loss", False),
    "accuracy": ("test_accuracy", False),
    "batch": ("batch_size", False),
    "rate": ("learning_rate", False),
}
"""Column of the record, and whether its minimum so far is meant."""


def chart_data(comparison: Comparison, axis: str = "epochs") -> dict[str, Any]:
    """Curves, ratios and speed-ups, in what JSON can hold; the best on ``axis`` are shown."""
    every = group_styles(comparison.names)
    order = comparison.axes[axis].order
    points = GRID if len(comparison.groups) <= MANY else GRID // 3
    reference = comparison.groups.index(comparison.reference)
    return {
        "axes": list(AXES),
        "budgets": {axis: _number(on.budget, 7) for axis, on in comparison.axes.items()},
        "levels": list(comparison.thresholds),
        "reference": reference,
        "groups": [
            {
                "label": group.label,
                "colour": every[group.name].colour,
                "dash": dasharray(every[group.name]),
                "mark": mark_path(every[group.name]),
                "shown": number in order[:SHOWN] or number == reference,
                "curves": _curves(group, points),
            }
            for number, group in enumerate(comparison.groups)
        ],
        "ratios": {
            axis: [_ratio(standing) for standing in on.standings]
            for axis, on in comparison.axes.items()
        },
        "speedUps": {
            axis: [_speed_ups(standing) for standing in on.standings]
            for axis, on in comparison.axes.items()
        },
    }


def _curves(group: Group, points: int) -> list[dict[str, Any]]:
    """Curves with the axes that they are for: one for all where the runs share their steps."""
    alike = same_steps(group)
    together = [list(AXES)] if alike else [[axis] for axis in AXES]
    found = []
    for axes in together:
        drawn = {
            name: curve(group, column, axes[0], minimum=minimum)
            for name, (column, minimum) in _COLUMNS.items()
        }
        x = {axis: mean_position(group, axis) if alike else drawn["norm"].x for axis in axes}
        keep = _thinned(len(drawn["norm"].x), points)
        found.append(
            {
                "x": {axis: _numbers(places[keep], 7) for axis, places in x.items()},
                "y": {name: _band(line, keep) for name, line in drawn.items()},
            }
        )
    return found


def _thinned(length: int, points: int) -> Places:
    return np.linspace(0, length - 1, min(length, points)).round().astype(np.int64)


def _band(line: Curve, keep: Places) -> dict[str, list[float | None]]:
    mean, low, high = line.mean[keep], line.lowest[keep], line.highest[keep]
    band = {"mean": _numbers(mean, 4)}
    if not np.array_equal(low, high, equal_nan=True):
        band |= {"low": _numbers(low, 4), "high": _numbers(high, 4)}
    return band


def _ratio(standing: GroupResult) -> dict[str, Any] | None:
    duel = standing.against_reference
    if duel is None or math.isnan(duel.ratio):
        return None
    return {
        "mean": _number(duel.ratio, 5),
        "low": _number(duel.ratio_low, 5),
        "high": _number(duel.ratio_high, 5),
        "dots": _numbers(np.array(standing.ratios), 4),
    }


def _speed_ups(standing: GroupResult) -> list[dict[str, Any]]:
    return [
        {
            "level": found.threshold,
            "factor": _number(found.factor, 5),
            "low": _number(found.low, 5),
            "high": _number(found.high, 5),
            "bound": found.bound,
        }
        for found in standing.speed_up
        if found.telling
    ]


def _numbers(values: FloatArray, digits: int) -> list[float | None]:
    return [_number(value, digits) for value in values.tolist()]


def _number(value: float, digits: int) -> float | None:
    """Few digits: a screen shows no more, and they are most of the file."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short
