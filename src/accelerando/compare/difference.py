"""Paired differences: each seed's norm over its norm under the reference, at equal cost."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accelerando.compare.comparison import AxisComparison, Comparison
from accelerando.compare.figure import STYLE, plain_ticks
from accelerando.compare.groups import Group
from accelerando.compare.summary_text import format_amount
from accelerando.plotting import group_colours


def draw(comparison: Comparison, groups: Sequence[Group]) -> Figure:
    """A panel for each axis, a row for each group: a dot for each seed, the mean, its interval.

    Args:
        comparison: what was found.
        groups: those to draw, the reference among them.
    """
    others = [group for group in groups if group is not comparison.reference]
    with matplotlib.rc_context(STYLE):
        height = 2.2 + 0.7 * max(len(others), 1)
        figure = Figure(figsize=(9, height), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey=True).flatten()
        palette = group_colours(comparison.names)
        for panel, on in zip(panels, comparison.axes.values(), strict=True):
            _rows(panel, on, others, palette)
            panel.axvline(1, color=palette[comparison.reference.name], lw=1.4)
            panel.set_title(f"at equal {on.axis} ({format_amount(on)})", fontsize=9)
            panel.set_xscale("log")
            panel.grid(alpha=0.25, axis="x")
        panels[0].set_yticks(range(len(others)), [group.label for group in others])
        panels[0].set_ylim(len(others) - 0.5, -0.5)
        plain_ticks(panels[0].xaxis)
        for panel in panels[2:]:
            panel.set_xlabel("norm / norm under the reference")
        figure.suptitle(f"{comparison.title}: each seed against {comparison.reference.label}")
    return figure


def _rows(
    panel: Axes, on: AxisComparison, others: Sequence[Group], palette: dict[str, str]
) -> None:
    for standing in on.standings:
        duel = standing.against_reference
        if standing.group not in others or duel is None or np.isnan(duel.ratio):
            continue
        row, colour = others.index(standing.group), palette[standing.group.name]
        # a little above the mean, so that neither hides the other
        heights = np.full(len(standing.ratios), row - 0.18)
        panel.plot(standing.ratios, heights, "o", ms=4, mfc="none", mec=colour, mew=0.9)
        low, high = np.nan_to_num([duel.ratio_low, duel.ratio_high], nan=duel.ratio)
        panel.plot([low, high], [row, row], color=colour, lw=2)
        panel.plot([duel.ratio], [row], "D", ms=6, color=colour)
