"""Speed-up over the reference on each axis, level by level."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accelerando.compare.comparison import Comparison, GroupResult
from accelerando.compare.figure import STYLE, legend, plain_ticks
from accelerando.compare.groups import Group
from accelerando.compare.thresholds import AT_LEAST, AT_MOST, EXACT
from accelerando.plotting import GroupStyle, group_styles

BOUNDS = {
    AT_LEAST: ("^", "at least: the reference never got there"),
    AT_MOST: ("v", "at most: the group itself never got there"),
}
"""Marks of factors that are known from one side, and what they mean."""


def draw(comparison: Comparison, groups: Sequence[Group]) -> Figure:
    """A panel for each axis: how many times less than the reference each level of the norm costs.

    Bars are 95 % intervals. Hollow triangles are factors that are known from one side; those that
    say nothing, such as "at least 0.4", are left out.

    Args:
        comparison: what was found.
        groups: those to draw, the reference among them.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 6.4), layout="constrained")
        panels = figure.subplots(2, 2, sharey=True, sharex=True).flatten()
        every = group_styles(comparison.names)
        others = [group for group in groups if group is not comparison.reference]
        for panel, (axis, on) in zip(panels, comparison.axes.items(), strict=True):
            panel.axhline(1, lw=1.4, **every[comparison.reference.name].line,
                          label=f"{comparison.reference.label} (reference)")  # fmt: skip
            for number, standing in enumerate(s for s in on.standings if s.group in others):
                # side by side, so that bars do not hide each other
                shift = 0.7 * ((number + 0.5) / len(others) - 0.5)
                _line(panel, standing, every[standing.group.name], comparison.thresholds, shift)
            panel.set_title(f"{axis}")
            panel.set_yscale("log")
            panel.grid(alpha=0.25)
        places = range(len(comparison.thresholds))  # the harder, the farther to the right
        panels[0].set_xticks(places, [f"{level:g}" for level in comparison.thresholds])
        plain_ticks(panels[0].yaxis)
        for panel in panels[2:]:
            panel.set_xlabel("full gradient norm to reach")
        for panel in panels[::2]:
            panel.set_ylabel("times fewer than the reference")
        _explain(panels[0], comparison, others)
        legend(figure, panels[0])
        figure.suptitle(f"{comparison.title}: speed-up over {comparison.reference.label}")
    return figure


def _line(
    panel: Axes, standing: GroupResult, look: GroupStyle, thresholds: Sequence[float], shift: float
) -> None:
    """Exact factors, joined, and what is known from one side as triangles of their own."""
    known = [found for found in standing.speed_up if found.telling]
    exact = [found for found in known if found.bound == EXACT]
    x = [thresholds.index(found.threshold) + shift for found in exact]
    panel.plot(x, [found.factor for found in exact], lw=1.2, marker=look.mark or "o", ms=5.5,
               label=standing.group.label, **look.line)  # fmt: skip
    x = [thresholds.index(found.threshold) + shift for found in known]
    # pale, so that what is known from one side is seen to be the group's and not its factor
    panel.plot(x, [found.factor for found in known], color=look.colour, lw=0.6, alpha=0.5)
    for found in known:
        place = thresholds.index(found.threshold) + shift
        if found.bound in BOUNDS:
            panel.plot([place], [found.factor], marker=BOUNDS[found.bound][0], ms=6, mfc="white",
                       color=look.colour, ls="")  # fmt: skip
        low, high = (found.factor if np.isnan(end) else end for end in (found.low, found.high))
        panel.plot([place, place], [low, high], color=look.colour, lw=1.1, zorder=1.5)


def _explain(panel: Axes, comparison: Comparison, others: Sequence[Group]) -> None:
    """A line of the legend for each kind of triangle that is drawn."""
    drawn = {
        found.bound
        for on in comparison.axes.values()
        for standing in on.standings
        if standing.group in others
        for found in standing.speed_up
        if found.telling
    }
    for bound in sorted(drawn & set(BOUNDS)):
        mark, words = BOUNDS[bound]
        panel.plot([], [], marker=mark, ms=6, mfc="white", color="black", ls="", label=words)
