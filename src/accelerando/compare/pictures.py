"""Every figure of a comparison, by the name of its file."""

from __future__ import annotations

from matplotlib.figure import Figure

from accelerando.compare import difference, speed_up, yardstick
from accelerando.compare.comparison import Comparison
from accelerando.compare.figure import draw
from accelerando.compare.groups import Group

MOST = 10
"""Groups that a reader can tell apart in one figure."""


def figures(comparison: Comparison, *, axis: str, raw: bool = False) -> dict[str, Figure]:
    """The figures that the runs allow.

    Args:
        comparison: what was found.
        axis: what the four panels are drawn against; the others show every axis.
        raw: norms as they were measured, not their minimum so far.
    """
    groups = drawn(comparison, axis)
    left = len(comparison.groups) - len(groups)
    names = comparison.names
    title = comparison.title + (f", the best {len(groups)} of {left + len(groups)}" if left else "")
    found = {"comparison": draw(groups, x=axis, title=title, raw=raw, names=names)}
    if len(groups) > 1:
        found["differences"] = difference.draw(comparison, groups)
        if comparison.thresholds:
            found["speed_up"] = speed_up.draw(comparison, groups)
    if both := yardstick.with_both(groups):
        found["yardsticks"] = yardstick.draw(both, title=title, names=names)
    if any("sharpness" in group.runs[0].record for group in groups):
        from accelerando.compare import bound  # needs Hydra

        if bounded := bound.with_bound(groups):
            found["bound"] = bound.draw(bounded, title=title, names=names)
    return found


def drawn(comparison: Comparison, axis: str) -> list[Group]:
    """At most ``MOST`` groups, the best on the axis and the reference, in their order."""
    order = comparison.axes[axis].order
    kept = [comparison.groups[place] for place in order[:MOST]]
    if comparison.reference not in kept:
        kept[-1] = comparison.reference
    return [group for group in comparison.groups if group in kept]
