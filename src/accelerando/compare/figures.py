"""All figures of a comparison, and those that compare groups with the reference."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accelerando.compare.comparison import AxisComparison, Comparison, GroupResult
from accelerando.compare.curve_figures import (
    STYLE,
    add_legend,
    draw_both_norms,
    draw_curves,
    groups_with_both_norms,
    use_plain_ticks,
)
from accelerando.compare.formatting import format_budget
from accelerando.compare.groups import Group
from accelerando.compare.thresholds import AT_LEAST, AT_MOST, EXACT
from accelerando.plotting import GroupStyle, group_colours, group_styles

MAX_GROUPS = 10
"""Number of groups that can be distinguished in one figure."""
BOUND_MARKERS = {
    AT_LEAST: ("^", "lower bound: the reference never reached the norm"),
    AT_MOST: ("v", "upper bound: the group itself never reached the norm"),
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
    names = comparison.names
    title = comparison.title
    if len(groups) < len(names):
        title += f", the best {len(groups)} of {len(names)}"
    result = {"comparison": draw_curves(groups, axis=axis, title=title, raw=raw, names=names)}
    if len(groups) > 1:
        result["differences"] = draw_ratios(comparison, groups)
        if comparison.thresholds:
            result["speed_up"] = draw_speedups(comparison, groups)
    if with_both := groups_with_both_norms(groups):
        result["yardsticks"] = draw_both_norms(with_both, title=title, names=names)
    if any("sharpness" in group.runs[0].record for group in groups):
        from accelerando.compare import bound  # takes time to import

        if bounded := bound.groups_with_bound(groups):
            result["bound"] = bound.draw_bounds(bounded, title=title, names=names)
    return result


def best_groups(comparison: Comparison, axis: str) -> list[Group]:
    """Return at most ``MAX_GROUPS`` groups: the best on the axis, and the reference."""
    best = [result.group for result in comparison.axes[axis].ranked[:MAX_GROUPS]]
    if comparison.reference not in best:
        best[-1] = comparison.reference
    return [group for group in comparison.groups if group in best]


def draw_ratios(comparison: Comparison, groups: Sequence[Group]) -> Figure:
    """Draw each seed's norm relative to the reference, with mean and interval, for each axis.

    Args:
        comparison: what to draw.
        groups: the groups to draw, including the reference.
    """
    others = [group for group in groups if group is not comparison.reference]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 2.2 + 0.7 * max(len(others), 1)), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey=True).flatten()
        colours = group_colours(comparison.names)
        for panel, on in zip(panels, comparison.axes.values(), strict=True):
            _draw_ratio_rows(panel, on, others, colours)
            panel.axvline(1, color=colours[comparison.reference.name], lw=1.4)
            panel.set_title(f"at equal {on.axis} ({format_budget(on)})", fontsize=9)
            panel.set_xscale("log")
            panel.grid(alpha=0.25, axis="x")
        panels[0].set_yticks(range(len(others)), [group.label for group in others])
        panels[0].set_ylim(len(others) - 0.5, -0.5)
        use_plain_ticks(panels[0].xaxis)
        for panel in panels[2:]:
            panel.set_xlabel("norm / norm of the reference")
        figure.suptitle(f"{comparison.title}: each seed relative to {comparison.reference.label}")
    return figure


def _draw_ratio_rows(
    panel: Axes, on: AxisComparison, others: Sequence[Group], colours: dict[str, str]
) -> None:
    for result in on.results:
        test = result.vs_reference
        if result.group not in others or test is None or np.isnan(test.ratio):
            continue
        row, colour = others.index(result.group), colours[result.group.name]
        # seeds above the mean, so that neither hides the other
        heights = np.full(len(result.ratios), row - 0.18)
        panel.plot(result.ratios, heights, "o", ms=4, mfc="none", mec=colour, mew=0.9)
        low, high = np.nan_to_num([test.ratio_low, test.ratio_high], nan=test.ratio)
        panel.plot([low, high], [row, row], color=colour, lw=2)
        panel.plot([test.ratio], [row], "D", ms=6, color=colour)


def draw_speedups(comparison: Comparison, groups: Sequence[Group]) -> Figure:
    """Draw the speed-up over the reference at each threshold, for each axis.

    Bars are 95 % intervals and hollow triangles are bounds. Bounds that do not show which group
    is faster, such as "at least 0.4", are left out.

    Args:
        comparison: what to draw.
        groups: the groups to draw, including the reference.
    """
    reference = comparison.reference
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 6.4), layout="constrained")
        panels = figure.subplots(2, 2, sharey=True, sharex=True).flatten()
        styles = group_styles(comparison.names)
        others = [group for group in groups if group is not reference]
        for panel, on in zip(panels, comparison.axes.values(), strict=True):
            panel.axhline(1, lw=1.4, **styles[reference.name].line,
                          label=f"{reference.label} (reference)")  # fmt: skip
            for number, result in enumerate(r for r in on.results if r.group in others):
                # next to each other, so that bars do not overlap
                shift = 0.7 * ((number + 0.5) / len(others) - 0.5)
                _draw_speedup_line(
                    panel, result, styles[result.group.name], comparison.thresholds, shift
                )
            panel.set_title(on.axis)
            panel.set_yscale("log")
            panel.grid(alpha=0.25)
        ticks = range(len(comparison.thresholds))
        panels[0].set_xticks(ticks, [f"{threshold:g}" for threshold in comparison.thresholds])
        use_plain_ticks(panels[0].yaxis)
        for panel in panels[2:]:
            panel.set_xlabel("full gradient norm to reach")
        for panel in panels[::2]:
            panel.set_ylabel("times fewer than the reference")
        _explain_bounds(panels[0], comparison, others)
        add_legend(figure, panels[0])
        figure.suptitle(f"{comparison.title}: speed-up over {reference.label}")
    return figure


def _draw_speedup_line(
    panel: Axes, result: GroupResult, style: GroupStyle, thresholds: Sequence[float], shift: float
) -> None:
    points = [
        (thresholds.index(speedup.threshold) + shift, speedup)
        for speedup in result.speedups
        if speedup.informative
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


def _explain_bounds(panel: Axes, comparison: Comparison, others: Sequence[Group]) -> None:
    """Add a legend entry for each kind of bound that is drawn."""
    drawn = {
        speedup.bound
        for on in comparison.axes.values()
        for result in on.results
        if result.group in others
        for speedup in result.speedups
        if speedup.informative
    }
    for bound in sorted(drawn & set(BOUND_MARKERS)):
        marker, text = BOUND_MARKERS[bound]
        panel.plot([], [], marker=marker, ms=6, mfc="white", color="black", ls="", label=text)
