"""Runs brought onto one axis: epochs, steps, examples or seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelerando.compare.groups import Group
from accelerando.compare.load import Run

FloatArray = npt.NDArray[np.float64]

AXES = {"epochs": "epoch", "steps": "step", "examples": "examples", "seconds": "seconds"}
"""What runs are compared on, and the record's name for it."""
NORM = "full_gradient_norm"
GRID = 300
"""Most points of a curve whose runs were not measured at the same places."""


class Curve(NamedTuple):
    """A mean line and a band from the least to the most, each of shape (points,)."""

    x: FloatArray
    mean: FloatArray
    lowest: FloatArray
    highest: FloatArray


def running_min(values: FloatArray) -> FloatArray:
    """Minimum up to each measurement; what is no number counts as nothing.

    >>> running_min(np.array([3.0, 5.0, np.nan, 1.0])).tolist()
    [3.0, 3.0, 3.0, 1.0]
    """
    result: FloatArray = np.fmin.accumulate(values)
    return result


def column(run: Run, name: str) -> FloatArray:
    """One column of the record; NaN throughout where it was not measured."""
    found = run.record.get(name)
    return np.full(len(run.record["step"]), np.nan) if found is None else found


def position(run: Run, axis: str) -> FloatArray:
    """Where on ``axis`` each measurement was made."""
    return column(run, AXES[axis])


def common_budget(runs: Sequence[Run], axis: str) -> float:
    """The farthest place on ``axis`` that every run reached."""
    return min(float(position(run, axis)[-1]) for run in runs)


def norm_at(run: Run, axis: str, budget: float) -> float:
    """Minimum full gradient norm measured up to ``budget``; at the least the first one.

    Nothing is interpolated: a norm between two measurements was seen by nobody.
    """
    last = int(np.searchsorted(position(run, axis), budget, side="right")) - 1
    return float(running_min(column(run, NORM))[max(last, 0)])


def curve(group: Group, name: str, axis: str, *, minimum: bool = False) -> Curve:
    """Mean and range of a column over a group's runs.

    The curve ends where the first of its runs ends. Where all runs were measured after the same
    steps, their mean seconds stand for all of them; else each keeps a value until its next.

    Args:
        group: whose runs.
        name: column of the record.
        axis: one of ``AXES``.
        minimum: the minimum so far in place of the value.
    """
    runs = group.runs
    values = [running_min(column(run, name)) if minimum else column(run, name) for run in runs]
    if same_steps(group):
        return _spread(mean_position(group, axis), np.stack(values))
    places = [position(run, axis) for run in runs]
    grid = np.unique(np.concatenate(places))
    first, last = max(place[0] for place in places), min(place[-1] for place in places)
    grid = grid[(grid >= first) & (grid <= last)]
    if not len(grid):  # the first measurement of one comes after the last of another
        grid = np.array([first])
    if len(grid) > GRID:
        grid = grid[np.linspace(0, len(grid) - 1, GRID).round().astype(int)]
    rows = [
        value[np.searchsorted(place, grid, side="right") - 1]
        for place, value in zip(places, values, strict=True)
    ]
    return _spread(grid, np.stack(rows))


def mean_position(group: Group, axis: str) -> FloatArray:
    """Where the measurements of a group were made whose runs were measured after the same steps."""
    found: FloatArray = np.mean([position(run, axis) for run in group.runs], axis=0)
    return found


def same_steps(group: Group) -> bool:
    """Whether all runs of a group were measured after the same steps."""
    first, *others = (position(run, "steps") for run in group.runs)
    return all(np.array_equal(first, other) for other in others)


def _spread(x: FloatArray, rows: FloatArray) -> Curve:
    return Curve(x, rows.mean(axis=0), rows.min(axis=0), rows.max(axis=0))
