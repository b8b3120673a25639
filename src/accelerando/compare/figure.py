"""The comparison as the paper draws it: four panels, a mean line and a min-max band each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accelerando.compare.groups import Group
from accelerando.plotting import colours

AXES = {"epochs": "epoch", "steps": "step", "examples": "examples"}
"""What can be on the x axis, and the record's name for it."""


def draw(groups: Sequence[Group], *, x: str, title: str) -> Figure:
    """Schedule, minimum-so-far full gradient norm, empirical loss and test accuracy.

    Args:
        groups: what to compare.
        x: one of ``AXES``.
        title: above the panels.
    """
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False}):
        figure = Figure(figsize=(9, 7), layout="constrained")
        panels = figure.subplots(2, 2).flatten()
        palette = colours([group.name for group in groups])
        _schedule(panels[0], groups, AXES[x], palette)
        wanted = (
            ("full_gradient_norm", "full gradient norm, minimum so far", True),
            ("empirical_loss", "empirical loss", False),
            ("test_accuracy", "test accuracy", False),
        )
        for panel, (column, label, so_far) in zip(panels[1:], wanted, strict=True):
            _curves(panel, groups, column, AXES[x], palette, so_far=so_far)
            panel.set_title(label)
            if so_far:
                _bounds(panel, groups, AXES[x], palette)
            panel.spines["right"].set_visible(False)
            if column == "test_accuracy":
                _cut_first_climb(panel)
            else:
                panel.set_yscale("log")
        for panel in panels:
            panel.set_xlabel(x)
            panel.grid(alpha=0.25)
        handles, labels = panels[1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle(title)
    return figure


def _schedule(panel: Axes, groups: Sequence[Group], x: str, palette: dict[str, str]) -> None:
    rates = panel.twinx()
    for number, group in enumerate(groups):
        record = group.runs[0].record
        # each thinner than the one before it, so that equal schedules all show
        style: dict[str, Any] = {
            "color": palette[group.name],
            "lw": 1.2 + 0.8 * (len(groups) - 1 - number),
        }
        panel.step(record[x], record["batch_size"], where="pre", **style)
        rates.step(record[x], record["learning_rate"], where="pre", ls="--", **style)
    panel.set_yscale("log", base=2)
    panel.yaxis.set_major_formatter("{x:.0f}")
    panel.set_title("schedule")
    panel.set_ylabel("batch size (solid)")
    rates.set_ylabel("learning rate (dashed)")
    rates.set_ylim(bottom=0)


def _bounds(panel: Axes, groups: Sequence[Group], x: str, palette: dict[str, str]) -> None:
    """The paper's bound where the runs measured what it needs, and only where it is defined."""
    for group in groups:
        record = group.runs[0].record
        if "sharpness" in record:
            from accelerando.compare.bound import bound_curve  # needs Hydra

            values = bound_curve(group.runs[0])
            if values is not None and np.isfinite(values).any():
                style: dict[str, Any] = {"color": palette[group.name], "ls": ":", "lw": 1.1}
                panel.plot(record[x], values, label=f"{group.label}: bound, indicative", **style)


def _cut_first_climb(panel: Axes) -> None:
    """Leave out the climb of the first tenth, which would squeeze all that differs later."""
    lines = [np.asarray(line.get_ydata(), float) for line in panel.lines]
    values = np.concatenate([line[len(line) // 10 + 1 :] for line in lines])
    margin = 0.1 * (values.max() - values.min()) + 0.002
    panel.set_ylim(values.min() - margin, values.max() + margin)


def _curves(
    panel: Axes,
    groups: Sequence[Group],
    column: str,
    x: str,
    palette: dict[str, str],
    *,
    so_far: bool,
) -> None:
    for group in groups:
        curve = group.curve(column, x, so_far=so_far)
        colour = palette[group.name]
        panel.plot(curve.x, curve.mean, color=colour, label=group.label, lw=1.4)
        panel.fill_between(curve.x, curve.lowest, curve.highest, color=colour, alpha=0.2, lw=0)
