"""Figures of measured curves: the four panels of the paper, and the two gradient norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from accelerando.compare.align import AXES, NORM, mean_curve
from accelerando.compare.groups import Group
from accelerando.plotting import GroupStyle, group_colours, group_styles

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
}
"""Matplotlib settings of all figures of a comparison; text stays text in vector files."""


def draw_curves(
    groups: Sequence[Group],
    *,
    axis: str,
    title: str,
    raw: bool = False,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw schedule, full gradient norm, empirical loss and test accuracy.

    Lines are means over runs; bands span the minimum to the maximum.

    Args:
        groups: the groups to draw.
        axis: one of ``AXES``.
        title: of the figure.
        raw: whether to draw the norm as measured instead of its minimum so far.
        names: the groups that need distinct styles, if more than the drawn ones.
    """
    styles = group_styles(names or [group.name for group in groups])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 7), layout="constrained")
        schedule, norm, loss, accuracy = figure.subplots(2, 2).flatten()
        _draw_schedule(schedule, groups, AXES[axis], styles)
        _draw_means(norm, groups, NORM, axis, styles, minimum=not raw)
        norm.set_title("full gradient norm" + ("" if raw else ", minimum so far"))
        _draw_means(loss, groups, "empirical_loss", axis, styles)
        loss.set_title("empirical loss")
        _draw_means(accuracy, groups, "test_accuracy", axis, styles)
        accuracy.set_title("test accuracy")
        _cut_first_climb(accuracy)
        for panel in (norm, loss):
            panel.set_yscale("log")
        for panel in (schedule, norm, loss, accuracy):
            panel.set_xlabel(axis)
            panel.grid(alpha=0.25)
        add_legend(figure, norm)
        figure.suptitle(title)
    return figure


def _draw_schedule(
    panel: Axes, groups: Sequence[Group], x: str, styles: Mapping[str, GroupStyle]
) -> None:
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
    panel: Axes,
    groups: Sequence[Group],
    column: str,
    axis: str,
    styles: Mapping[str, GroupStyle],
    *,
    minimum: bool = False,
) -> None:
    for number, group in enumerate(groups):
        curve, style = mean_curve(group, column, axis, minimum=minimum), styles[group.name]
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


def add_legend(figure: Figure, panel: Axes) -> None:
    """Add one legend for all panels, below them."""
    handles, labels = panel.get_legend_handles_labels()
    columns = 1 if max(map(len, labels), default=0) > 60 else 2
    # handles long enough for a dash pattern and a marker
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False,
                  handlelength=4)  # fmt: skip


def use_plain_ticks(axis: Axis) -> None:
    """Label a log axis with plain numbers, even if it spans less than a decade."""
    low, high = axis.get_view_interval()
    digits = (1,) if high / low > 100 else (1, 2, 5)
    axis.set_major_locator(LogLocator(subs=digits) if high / low > 4 else MaxNLocator(5))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def groups_with_both_norms(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that measured both the exact and the published gradient norm."""
    columns = {"published_gradient_norm", NORM}
    return [group for group in groups if columns <= set(group.runs[0].record)]


def draw_both_norms(
    groups: Sequence[Group], *, title: str, names: Sequence[str] | None = None
) -> Figure:
    """Draw the exact and the published gradient norm of each group's first run, and their ratio.

    Vertical lines mark changes of the batch size: a jump of the ratio there is a change of the
    published yardstick, not of the model.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(groups), 5), layout="constrained")
        panels = figure.subplots(
            2, len(groups), sharex=True, sharey="row", squeeze=False, height_ratios=[2, 1]
        )
        colours = group_colours(names or [group.name for group in groups])
        for (above, below), group in zip(panels.T, groups, strict=True):
            record, colour = group.runs[0].record, colours[group.name]
            x, exact, published = (
                record[name] for name in ("epoch", NORM, "published_gradient_norm")
            )
            above.plot(x, exact, color=colour, lw=1.4, label="fixed yardstick")
            above.plot(x, published, color="black", lw=0.9, ls=":", label="published norm")
            below.plot(x, published / exact, color=colour, lw=1.2)
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
        figure.suptitle(title)
    return figure
