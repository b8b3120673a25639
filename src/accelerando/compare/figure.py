"""The comparison as the paper draws it: four panels, a mean line and a min-max band each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from accelerando.compare.align import AXES, NORM, curve
from accelerando.compare.groups import Group
from accelerando.plotting import GroupStyle, group_styles

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
}
"""What the figures of a comparison share; text stays text in vector files."""


def draw(
    groups: Sequence[Group],
    *,
    x: str,
    title: str,
    raw: bool = False,
    names: Sequence[str] | None = None,
) -> Figure:
    """Schedule, full gradient norm, empirical loss and test accuracy.

    Args:
        groups: what to compare.
        x: one of ``AXES``.
        title: above the panels.
        raw: the norm as it was measured, not its minimum so far.
        names: of all groups that must look other than these; None: of these alone.
    """
    every = group_styles(names or [group.name for group in groups])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 7), layout="constrained")
        panels = figure.subplots(2, 2).flatten()
        _schedule(panels[0], groups, AXES[x], every)
        norm = "full gradient norm" + ("" if raw else ", minimum so far")
        wanted = ((NORM, norm), ("empirical_loss", "empirical loss"))
        for panel, (column, label) in zip(panels[1:], wanted, strict=False):
            _curves(panel, groups, column, x, every, minimum=column == NORM and not raw)
            panel.set_title(label)
            panel.set_yscale("log")
        _curves(panels[3], groups, "test_accuracy", x, every, minimum=False)
        panels[3].set_title("test accuracy")
        _cut_first_climb(panels[3])
        for panel in panels:
            panel.set_xlabel(x)
            panel.grid(alpha=0.25)
        legend(figure, panels[1])
        figure.suptitle(title)
    return figure


def legend(figure: Figure, panel: Axes) -> None:
    """One legend for all panels, below them."""
    handles, labels = panel.get_legend_handles_labels()
    columns = 1 if max(map(len, labels), default=0) > 60 else 2
    # long enough to show a dash and a mark
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False,
                  handlelength=4)  # fmt: skip


def plain_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis of ratios as numbers, though it spans less than a decade."""
    low, high = axis.get_view_interval()
    digits = (1,) if high / low > 100 else (1, 2, 5)
    axis.set_major_locator(LogLocator(subs=digits) if high / low > 4 else MaxNLocator(5))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _schedule(
    panel: Axes, groups: Sequence[Group], x: str, every: Mapping[str, GroupStyle]
) -> None:
    """Batch sizes as wide pale lines, learning rates as lines like those of the other panels."""
    rates = panel.twinx()
    rates.spines["right"].set_visible(True)
    for number, group in enumerate(groups):
        record = group.runs[0].record
        look = every[group.name]
        # each thinner than the one before it, so that equal schedules all show
        thinner = (len(groups) - 1 - number) / max(len(groups), 4)
        panel.step(record[x], record["batch_size"], where="pre", color=look.colour, alpha=0.45,
                   lw=2.4 + 3.2 * thinner, solid_capstyle="butt")  # fmt: skip
        rates.step(record[x], record["learning_rate"], where="pre", lw=1.2 + 1.2 * thinner,
                   **look.line, **look.marks(len(record[x]), number))  # fmt: skip
    panel.set_yscale("log", base=2)
    panel.yaxis.set_major_formatter("{x:.0f}")
    panel.set_title("schedule")
    panel.set_ylabel("batch size (wide, pale)")
    rates.set_ylabel("learning rate (thin)")
    rates.set_ylim(bottom=0)


def _cut_first_climb(panel: Axes) -> None:
    """Leave out the climb of the first tenth, which would squeeze all that differs later."""
    lines = [np.asarray(line.get_ydata(), float) for line in panel.lines]
    values = np.concatenate([line[len(line) // 10 + 1 :] for line in lines])
    values = values[np.isfinite(values)]
    if len(values):
        margin = 0.1 * (values.max() - values.min()) + 0.002
        panel.set_ylim(values.min() - margin, values.max() + margin)


def _curves(
    panel: Axes,
    groups: Sequence[Group],
    column: str,
    x: str,
    every: Mapping[str, GroupStyle],
    *,
    minimum: bool,
) -> None:
    for number, group in enumerate(groups):
        found, look = curve(group, column, x, minimum=minimum), every[group.name]
        panel.plot(found.x, found.mean, label=group.label, lw=1.4, **look.line,
                   **look.marks(len(found.x), number))  # fmt: skip
        panel.fill_between(found.x, found.lowest, found.highest, color=look.colour, alpha=0.2, lw=0)
