"""Speed-up over the reference on each axis, level by level."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accelerando.compare.comparison import Comparison, Standing
from accelerando.compare.figure import STYLE, legend, plain_ticks
from accelerando.compare.groups import Group
from accelerando.compare.thresholds import AT_LEAST, AT_MOST, EXACT, SpeedUp
from accelerando.plotting import Look, looks


def draw(comparison: Comparison, groups: Sequence[Group]) -> Figure:
    """A panel for each axis: how many times less than the reference each level of the norm costs.

    Bars are 95 % intervals. An arrow up marks "at least": the reference never reached the level.

    Args:
        comparison: what was found.
        groups: those to draw, the reference among them.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 6.4), layout="constrained")
        panels = figure.subplots(2, 2, sharey=True, sharex=True).flatten()
        every = looks(comparison.names)
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
        legend(figure, panels[0])
        figure.suptitle(f"{comparison.title}: speed-up over {comparison.reference.label}")
    return figure


def _line(
    panel: Axes, standing: Standing, look: Look, thresholds: Sequence[float], shift: float
) -> None:
    known = [found for found in standing.speed_up if found.bound in (EXACT, AT_LEAST, AT_MOST)]
    x = np.array([thresholds.index(found.threshold) for found in known]) + shift
    y = np.array([found.factor for found in known])
    panel.plot(x, y, lw=1.2, **look.line, label=standing.group.label)
    for found, place in zip(known, x, strict=True):
        _point(panel, found, place, look)


def _point(panel: Axes, found: SpeedUp, place: float, look: Look) -> None:
    marker = {EXACT: look.mark or "o", AT_LEAST: "^", AT_MOST: "v"}[found.bound]
    panel.plot([place], [found.factor], marker=marker, ms=5, color=look.colour)
    low, high = (found.factor if np.isnan(end) else end for end in (found.low, found.high))
    panel.plot([place, place], [low, high], color=look.colour, lw=1.1)
