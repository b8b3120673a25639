"""Bring runs to a common axis: epochs, steps, examples or seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accelerando.compare.groups import Group
from accelerando.compare.load import Run
from accelerando.compare.statistics import FloatArray

AXES = {"epochs": "epoch", "steps": "step", "examples": "examples", "seconds": "seconds"}
"""The axes of a comparison, with their columns in the record."""
NORM = "full_gradient_norm"
MAX_POINTS = 300
"""Maximum number of points of a curve whose runs were measured at different positions."""


class Curve(NamedTuple):
    """Positions; mean, minimum and maximum over runs; each of shape (points,)."""

    x: FloatArray
    mean: FloatArray
    lowest: FloatArray
    highest: FloatArray


def running_min(values: FloatArray) -> FloatArray:
    """Return the minimum up to each measurement, ignoring NaN.

    >>> running_min(np.array([3.0, 5.0, np.nan, 1.0])).tolist()
    [3.0, 3.0, 3.0, 1.0]
    """
    result: FloatArray = np.fmin.accumulate(values)
    return result


def column(run: Run, name: str) -> FloatArray:
    """Return a column of the record, NaN if it was not measured."""
    values = run.record.get(name)
    return np.full(len(run.record["step"]), np.nan) if values is None else values


def positions(run: Run, axis: str) -> FloatArray:
    """Return the positions of a run's measurements on ``axis``."""
    return column(run, AXES[axis])


def common_budget(groups: Sequence[Group], axis: str) -> float:
    """Return the largest position on ``axis`` that every run reached, except runs that failed."""
    runs = [run for group in groups for run in group.runs]
    learned = [run for run in runs if not run.failed] or runs
    return min(float(positions(run, axis)[-1]) for run in learned)


def min_norm_at(run: Run, axis: str, budget: float) -> float:
    """Return the minimum full gradient norm measured up to ``budget``, at least the first one.

    The norm before training is not a result, and a run that failed has none: it returns infinity.
    Nothing is interpolated: the norm between two measurements is unknown.
    """
    if run.failed:
        return math.inf
    norms = np.where(positions(run, "steps") > 0, column(run, NORM), np.nan)
    last = int(np.searchsorted(positions(run, axis), budget, side="right")) - 1
    first = min(int((positions(run, "steps") <= 0).sum()), len(norms) - 1)
    norm = float(running_min(norms)[max(last, first)])
    return math.inf if math.isnan(norm) else norm


CUT = 0.9
"""Share of its epochs below which a run's schedule counts as cut short by a budget."""


def describe_cut(group: Group, axis: str, budget: float) -> str:
    """Describe where ``budget`` cuts the schedule of a group short; empty if it does not.

    A constant batch size with a constant learning rate has no shape that could be cut.
    """
    return next(filter(None, (_cut(run, axis, budget) for run in group.learned.values())), "")


def _cut(run: Run, axis: str, budget: float) -> str:
    x = positions(run, axis)
    epoch = float(np.interp(budget, x, column(run, "epoch")))
    sizes, rates = column(run, "batch_size"), column(run, "learning_rate")
    if run.failed or epoch >= CUT * run.state.epochs or not (np.ptp(sizes) or np.ptp(rates)):
        return ""
    last = max(int(np.searchsorted(x, budget, side="right")) - 1, 0)
    size = f", batch size {sizes[last]:,.0f} of {sizes.max():,.0f}" if np.ptp(sizes) else ""
    return f"at epoch {epoch:.3g} of {run.state.epochs}{size}"


def mean_curve(group: Group, name: str, axis: str, *, minimum: bool = False) -> Curve:
    """Return mean and range of a column over a group's runs.

    Runs that failed are left out. The curve ends where the first of the runs ends. If all runs were
    measured after the same steps, the positions are their means; otherwise each run's value holds
    until its next measurement.
    ``minimum`` asks for the minimum so far instead of the value.
    """
    values = [column(run, name) for run in group.learned.values()]
    if minimum:
        values = list(map(running_min, values))
    x = [positions(run, axis) for run in group.learned.values()]
    if share_steps(group):
        grid: FloatArray = np.mean(x, axis=0)
    else:
        first, last = max(places[0] for places in x), min(places[-1] for places in x)
        grid = np.unique(np.concatenate(x))
        grid = grid[(grid >= first) & (grid <= last)]
        if not len(grid):  # one run starts after another one ended
            grid = np.array([first])
        grid = thin_out(grid, MAX_POINTS)
        values = [
            row[np.searchsorted(places, grid, side="right") - 1]
            for places, row in zip(x, values, strict=True)
        ]
    rows = np.stack(values)
    return Curve(grid, rows.mean(axis=0), rows.min(axis=0), rows.max(axis=0))


def thin_out(values: FloatArray, count: int) -> FloatArray:
    """Return at most ``count`` values, evenly spaced and with the first and the last."""
    kept = np.linspace(0, len(values) - 1, min(len(values), count)).round().astype(int)
    result: FloatArray = values[kept]
    return result


def share_steps(group: Group) -> bool:
    """Return whether all runs of a group that learned were measured after the same steps."""
    first, *others = (positions(run, "steps") for run in group.learned.values())
    return all(np.array_equal(first, other) for other in others)
