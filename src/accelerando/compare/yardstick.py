"""The exact full gradient norm and the published one, measured at the same weights."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from accelerando.compare.figure import STYLE
from accelerando.compare.groups import Group
from accelerando.plotting import group_colours


def with_both(groups: Sequence[Group]) -> list[Group]:
    """The groups whose runs were measured both ways."""
    return [
        group
        for group in groups
        if {"published_gradient_norm", "full_gradient_norm"} <= set(group.runs[0].record)
    ]


def draw(groups: Sequence[Group], *, title: str, names: Sequence[str] | None = None) -> Figure:
    """A panel per scheduler: both norms of its first seed by epoch, and their ratio below.

    Vertical lines are where the batch size changes: a step of the ratio there is the published
    yardstick changing, not the model.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(groups), 5), layout="constrained")
        panels = figure.subplots(
            2, len(groups), sharex=True, sharey="row", squeeze=False, height_ratios=[2, 1]
        )
        palette = group_colours(names or [group.name for group in groups])
        for (above, below), group in zip(panels.T, groups, strict=True):
            record = group.runs[0].record
            x, colour = record["epoch"], palette[group.name]
            exact, published = record["full_gradient_norm"], record["published_gradient_norm"]
            above.plot(x, exact, color=colour, lw=1.4, label="fixed yardstick")
            above.plot(x, published, color="black", lw=0.9, ls=":", label="published way")
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
