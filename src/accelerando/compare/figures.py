"""All figures of a comparison, and those that compare groups with the reference."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accelerando.compare.align import NORM
from accelerando.compare.comparison import Comparison, GroupResult
from accelerando.compare.curve_figures import (
    PUBLISHED_COLUMNS,
    Styles,
    draw_both_norms,
    draw_bounds,
    draw_curves,
    new_figure,
    use_plain_ticks,
)
from accelerando.compare.formatting import format_budget
from accelerando.compare.groups import Group
from accelerando.compare.thresholds import AT_LEAST, AT_MOST, EXACT, UNKNOWN
from accelerando.plotting import GroupStyle, add_legend, group_styles

MAX_GROUPS = 10
"""Number of groups that can be distinguished in one figure."""
BOUND_MARKERS = {
    AT_LEAST: ("^", "lower end of the 95 % interval: the reference does not always reach the norm"),
    AT_MOST: ("v", "upper end of the 95 % interval: the group does not always reach the norm"),
}
"""Markers of bounds on a speed-up, with their explanations."""


def figures(comparison: Comparison, *, axis: str, raw: bool = False) -> dict[str, Figure]:
    """Return the figures for which there are measurements, by file name.

    Args:
        comparison: what to draw.
        axis: of the curves; the other figures show all axes.
        raw: whether to draw norms as measured instead of their minimum so far.
    """
    groups = best_groups(comparison, axis)
    others = [group for group in groups if group is not comparison.reference]
    styles, title = group_styles(comparison.names), comparison.title
    if len(groups) < len(comparison.groups):
        title += f", the best {len(groups)} of {len(comparison.groups)}"
    records = [group.runs[0].record for group in groups]
    with matplotlib.rc_context(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        result = {"comparison": draw_curves(groups, styles, title, axis=axis, raw=raw)}
        if others:
            result["differences"] = _draw_ratios(comparison, others, styles)
        if others and comparison.thresholds:
            result["speed_up"] = _draw_speedups(comparison, others, styles)
        if with_both := [
            group for group, record in zip(groups, records, strict=True)
            if NORM in record and set(PUBLISHED_COLUMNS) & set(record)
        ]:  # fmt: skip
            result["yardsticks"] = draw_both_norms(with_both, styles, title)
        if any("sharpness" in record for record in records):
            from accelerando.compare.bound import finite_bounds  # takes time to import

            if bounds := finite_bounds(groups):
                result["bound"] = draw_bounds(bounds, styles, title)
    return result


def best_groups(comparison: Comparison, axis: str) -> list[Group]:
    """Return at most ``MAX_GROUPS`` groups: the best on the axis, and the reference."""
    best = [result.group for result in comparison.axes[axis].ranked[:MAX_GROUPS]]
    if comparison.reference not in best:
        best[-1] = comparison.reference
    return [group for group in comparison.groups if group in best]


def _draw_ratios(comparison: Comparison, others: Sequence[Group], styles: Styles) -> Figure:
    """Draw each seed's norm relative to the reference, with mean and interval, for each axis."""
    reference = comparison.reference
    title = f"{comparison.title}: each seed relative to {reference.label}"
    size = (9, 2.2 + 0.7 * len(others))
    figure, grid = new_figure(title, 2, 2, size=size, sharex=True, sharey=True)
    panels = grid.flatten()
    for panel, on in zip(panels, comparison.axes.values(), strict=True):
        for result in on.results:
            if result.group in others:
                colour = styles[result.group.name].colour
                _draw_ratio_row(panel, result, others.index(result.group), colour)
        panel.axvline(1, color=styles[reference.name].colour, lw=1.4)
        panel.set_title(f"at equal {on.axis} ({format_budget(on)})", fontsize=9)
        panel.set_xscale("log")
        panel.grid(alpha=0.25, axis="x")
    panels[0].set_yticks(range(len(others)), [group.label for group in others])
    panels[0].set_ylim(len(others) - 0.5, -0.5)
    use_plain_ticks(panels[0].xaxis)
    for panel in panels[2:]:
        panel.set_xlabel("norm / norm of the reference")
    return figure


def _draw_ratio_row(panel: Axes, result: GroupResult, row: int, colour: str) -> None:
    test = result.vs_reference
    if test is None or np.isnan(test.ratio):
        return
    # seeds above the mean, so that neither hides the other
    heights = np.full(len(result.ratios), row - 0.18)
    panel.plot(result.ratios, heights, "o", ms=4, mfc="none", mec=colour, mew=0.9)
    low, high = np.nan_to_num([test.ratio_low, test.ratio_high], nan=test.ratio)
    panel.plot([low, high], [row, row], color=colour, lw=2)
    panel.plot([test.ratio], [row], "D", ms=6, color=colour)


def _draw_speedups(comparison: Comparison, others: Sequence[Group], styles: Styles) -> Figure:
    """Draw the speed-up over the reference at each threshold, for each axis.

    Bars are 95 % intervals and hollow triangles are bounds. Bounds that do not show which group
    is faster, such as "at least 0.4", are left out.
    """
    reference, thresholds = comparison.reference, comparison.thresholds
    title = f"{comparison.title}: speed-up over {reference.label}"
    figure, grid = new_figure(title, 2, 2, size=(9, 6.4), sharex=True, sharey=True)
    panels = grid.flatten()
    drawn: set[str] = set()
    for panel, on in zip(panels, comparison.axes.values(), strict=True):
        panel.axhline(1, lw=1.4, **styles[reference.name].line,
                      label=f"{reference.label} (reference)")  # fmt: skip
        for number, result in enumerate(r for r in on.results if r.group in others):
            # next to each other, so that bars do not overlap
            shift = 0.7 * ((number + 0.5) / len(others) - 0.5)
            drawn |= _draw_speedup_line(panel, result, styles[result.group.name], shift)
        panel.set_title(on.axis)
        panel.set_yscale("log")
        panel.grid(alpha=0.25)
    panels[0].set_xticks(range(len(thresholds)), [f"{threshold:g}" for threshold in thresholds])
    use_plain_ticks(panels[0].yaxis)
    for panel in panels[2:]:
        panel.set_xlabel("full gradient norm to reach")
    for panel in panels[::2]:
        panel.set_ylabel("times fewer than the reference")
    for bound in sorted(drawn & set(BOUND_MARKERS)):  # add it to the legend
        marker, text = BOUND_MARKERS[bound]
        panels[0].plot([], [], marker=marker, ms=6, mfc="white", color="black", ls="", label=text)
    add_legend(figure, panels[0])
    return figure


def _draw_speedup_line(
    panel: Axes, result: GroupResult, style: GroupStyle, shift: float
) -> set[str]:
    """Draw the speed-ups of a group, and return the kinds of bounds among them."""
    points = [
        (number + shift, speedup)
        for number, speedup in enumerate(result.speedups)
        if speedup.bound != UNKNOWN
    ]
    exact = [(x, speedup.factor) for x, speedup in points if speedup.bound == EXACT]
    panel.plot([x for x, _ in exact], [factor for _, factor in exact], lw=1.2, ms=5.5,
               marker=style.mark or "o", label=result.group.label, **style.line)  # fmt: skip
    # pale: it joins bounds, which are not the group's speed-up
    panel.plot([x for x, _ in points], [speedup.factor for _, speedup in points],
               color=style.colour, lw=0.6, alpha=0.5)  # fmt: skip
    for x, speedup in points:
        if speedup.bound in BOUND_MARKERS:
            panel.plot([x], [speedup.factor], marker=BOUND_MARKERS[speedup.bound][0], ms=6,
                       mfc="white", color=style.colour, ls="")  # fmt: skip
        ends = [speedup.factor if np.isnan(end) else end for end in (speedup.low, speedup.high)]
        panel.plot([x, x], ends, color=style.colour, lw=1.1, zorder=1.5)
    return {speedup.bound for _, speedup in points}
