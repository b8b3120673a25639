"""Figures of measured curves: the panels of the paper, two gradient norms, and the bound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from accelerando.compare.align import AXES, NORM, column, mean_curve, running_min
from accelerando.compare.groups import Group
from accelerando.compare.statistics import FloatArray
from accelerando.plotting import GroupStyle, add_legend

Styles = Mapping[str, GroupStyle]
"""The style of each group, by its name."""


def draw_curves(
    groups: Sequence[Group], styles: Styles, title: str, *, axis: str, raw: bool
) -> Figure:
    """Draw schedule, full gradient norm (raw or its minimum so far), empirical loss and accuracy.

    Lines are means over runs; bands span the minimum to the maximum.
    """
    figure, panels = new_figure(title, 2, 2, size=(9, 7))
    schedule, norm, loss, accuracy = panels.flatten()
    _draw_schedule(schedule, groups, AXES[axis], styles)
    for panel, name, heading in (
        (norm, NORM, "full gradient norm" + ("" if raw else ", minimum so far")),
        (loss, "empirical_loss", "empirical loss"),
        (accuracy, "test_accuracy", "test accuracy"),
    ):
        _draw_means(panel, groups, name, axis, styles, minimum=panel is norm and not raw)
        panel.set_title(heading)
    _cut_first_climb(accuracy)
    for panel in (norm, loss):
        panel.set_yscale("log")
    for panel in (schedule, norm, loss, accuracy):
        panel.set_xlabel(axis)
        panel.grid(alpha=0.25)
    add_legend(figure, norm)
    return figure


def _draw_schedule(panel: Axes, groups: Sequence[Group], x: str, styles: Styles) -> None:
    """Draw batch sizes as wide pale lines, and learning rates in the style of the group."""
    rates = panel.twinx()
    rates.spines["right"].set_visible(True)
    for number, group in enumerate(groups):
        record, style = group.runs[0].record, styles[group.name]
        # equal schedules hide each other: each line is thinner than the one below it
        extra_width = (len(groups) - 1 - number) / max(len(groups), 4)
        panel.step(record[x], record["batch_size"], where="pre", color=style.colour, alpha=0.45,
                   lw=2.4 + 3.2 * extra_width, solid_capstyle="butt")  # fmt: skip
        rates.step(record[x], record["learning_rate"], where="pre", lw=1.2 + 1.2 * extra_width,
                   **style.line, **style.marks(len(record[x]), number))  # fmt: skip
    panel.set_yscale("log", base=2)
    panel.yaxis.set_major_formatter("{x:.0f}")
    panel.set_title("schedule")
    panel.set_ylabel("batch size (wide, pale)")
    rates.set_ylabel("learning rate (thin)")
    rates.set_ylim(bottom=0)


def _draw_means(
    panel: Axes, groups: Sequence[Group], name: str, axis: str, styles: Styles, *, minimum: bool
) -> None:
    for number, group in enumerate(groups):
        curve, style = mean_curve(group, name, axis, minimum=minimum), styles[group.name]
        panel.plot(curve.x, curve.mean, label=group.label, lw=1.4, **style.line,
                   **style.marks(len(curve.x), number))  # fmt: skip
        panel.fill_between(
            curve.x, curve.lowest, curve.highest, color=style.colour, alpha=0.2, lw=0
        )


def _cut_first_climb(panel: Axes) -> None:
    """Leave out the climb of the first tenth, which would squeeze all later differences."""
    lines = [np.asarray(line.get_ydata(), float) for line in panel.lines]
    values = np.concatenate([line[len(line) // 10 + 1 :] for line in lines])
    values = values[np.isfinite(values)]
    if len(values):
        margin = 0.1 * (values.max() - values.min()) + 0.002
        panel.set_ylim(values.min() - margin, values.max() + margin)


PUBLISHED_COLUMNS = {
    "paper_gradient_norm": "paper",
    "adaptive_scheduler_gradient_norm": "adaptive_scheduler",
    "tracking_cbs_gradient_norm": "tracking_cbs",
    "published_gradient_norm": "mean over training batches",
}
"""Columns with published yardsticks and their labels; the last one is in older records only."""
PUBLISHED_DASHES = (":", "--", "-.", ":")


def draw_both_norms(groups: Sequence[Group], styles: Styles, title: str) -> Figure:
    """Draw the exact and the published gradient norms of each group's first run, and their ratios.

    Vertical lines mark changes of the batch size: a jump of the ratio there is a change of the
    published yardstick, not of the model.
    """
    figure, panels = new_figure(title, 2, len(groups), size=(3.6 * len(groups), 5), sharex=True,
                                sharey="row", height_ratios=[2, 1])  # fmt: skip
    for (above, below), group in zip(panels.T, groups, strict=True):
        record, colour = group.runs[0].record, styles[group.name].colour
        x, exact = record["epoch"], record[NORM]
        above.plot(x, exact, color=colour, lw=1.4, label="fixed yardstick")
        for (name, label), dash in zip(PUBLISHED_COLUMNS.items(), PUBLISHED_DASHES, strict=True):
            if name in record:
                above.plot(x, record[name], color="black", lw=0.9, ls=dash, label=label)
                below.plot(x, record[name] / exact, color=colour, lw=1.2, ls=dash)
        below.axhline(1, color="black", lw=0.6)
        changes = np.flatnonzero(np.diff(record["batch_size"])[1:]) + 1
        for panel in (above, below):
            for epoch in x[changes]:
                panel.axvline(epoch, color="0.8", lw=0.6, zorder=0)
        above.set_yscale("log")
        above.set_title(group.label, fontsize=8)
        above.legend(frameon=False)
        below.set_xlabel("epochs")
    panels[0, 0].set_ylabel("gradient norm")
    panels[1, 0].set_ylabel("published / fixed")
    return figure


def draw_bounds(curves: Sequence[tuple[Group, FloatArray]], styles: Styles, title: str) -> Figure:
    """Draw the minimum norm so far of each group's first run, and the root of its bound."""
    columns = min(len(curves), 4)
    rows = math.ceil(len(curves) / columns)
    size = (1.2 + 2.9 * columns, 1 + 2.6 * rows)
    figure, grid = new_figure(title, rows, columns, size=size, sharex=True, sharey=True)
    panels = grid.flatten()
    for panel, (group, bounds) in zip(panels, curves, strict=False):
        run, colour = group.runs[0], styles[group.name].colour
        epochs, norms = column(run, "epoch"), running_min(column(run, NORM))
        panel.plot(epochs, norms, color=colour, lw=1.4, label="measured")
        panel.plot(epochs, bounds, color=colour, lw=1.1, ls=":", label="bound, indicative")
        panel.set_yscale("log")
        panel.set_title(group.label, fontsize=8)
        panel.grid(alpha=0.25)
        panel.legend(frameon=False)
    for panel in panels[len(curves) :]:
        panel.set_visible(False)
    for panel in panels[-columns:]:
        panel.set_xlabel("epochs")
    use_plain_ticks(panels[0].yaxis)
    panels[0].set_ylabel("full gradient norm, minimum so far")
    return figure


def new_figure(
    title: str, rows: int, columns: int, *, size: tuple[float, float], **options: Any
) -> tuple[Figure, npt.NDArray[Any]]:
    """Return a figure and its panels, of shape (rows, columns)."""
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def use_plain_ticks(axis: Axis) -> None:
    """Label a log axis with plain numbers, even if it spans less than a decade."""
    low, high = axis.get_view_interval()
    digits = (1,) if high / low > 100 else (1, 2, 5)
    axis.set_major_locator(LogLocator(subs=digits) if high / low > 4 else MaxNLocator(5))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
