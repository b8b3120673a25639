"""The paper's bound for a run that was measured, over its curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
import yaml
from matplotlib.figure import Figure

from accelerando.build import bind
from accelerando.compare.align import NORM, column, running_min
from accelerando.compare.figure import STYLE, plain_ticks
from accelerando.compare.groups import Group
from accelerando.compare.load import Run
from accelerando.plotting import group_colours
from accelerando.runs.folder import RunFolder
from accelerando.schedule import Problem, bound


def bound_curve(run: Run) -> npt.NDArray[np.float64] | None:
    """Root of the bound at each measurement of ``run``, NaN where it is not defined.

    L is the largest sharpness that was measured, σ² the largest variance, f(θ_0) the loss at the
    start and f* zero, below which no cross-entropy lies. These are what the run happened to meet,
    not constants of the loss: the curve is indicative.

    Returns:
        Shape (measurements,); None where sharpness or variance were not measured, or have no
        value that the bound is defined for, and for runs with momentum or weight decay, of which
        the theorem says nothing.
    """
    record = run.record
    if not {"sharpness", "gradient_variance"} <= set(record):
        return None
    if any(run.config.get(f"optimizer.{name}") for name in ("momentum", "weight_decay")):
        return None
    try:
        problem = Problem(
            # fmax: NaN is where nothing was measured, or no number came out
            smoothness=float(np.fmax.reduce(record["sharpness"])),
            variance=float(np.fmax.reduce(record["gradient_variance"])),
            gap=float(record["empirical_loss"][0]),
        )
    except ValueError:
        return None
    recorded = yaml.safe_load(RunFolder(run.path).config.read_text())
    plan = bind(
        {key: value for key, value in recorded["scheduler"].items() if key != "name"},
        examples=recorded["dataset"]["examples"],
        epochs=recorded["epochs"],
    )
    values = np.full(len(record["step"]), math.nan)
    for row, step in enumerate(record["step"]):
        if step > 0:
            try:
                values[row] = math.sqrt(bound(plan.terms(int(step)), problem).total)
            except ValueError:  # from here on the rate is too large
                break
    return values


def with_bound(groups: Sequence[Group]) -> list[Group]:
    """The groups whose first run has a bound somewhere."""
    found = []
    for group in groups:
        values = bound_curve(group.runs[0])
        if values is not None and np.isfinite(values).any():
            found.append(group)
    return found


def draw(groups: Sequence[Group], *, title: str, names: Sequence[str] | None = None) -> Figure:
    """A panel per group: the norm of its first seed, minimum so far, under the bound's root."""
    with matplotlib.rc_context(STYLE):
        across = min(len(groups), 4)
        down = math.ceil(len(groups) / across)
        figure = Figure(figsize=(1.2 + 2.9 * across, 1 + 2.6 * down), layout="constrained")
        panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flatten()
        palette = group_colours(names or [group.name for group in groups])
        for panel, group in zip(panels, groups, strict=False):
            run = group.runs[0]
            epochs, values = column(run, "epoch"), bound_curve(run)
            assert values is not None
            colour = palette[group.name]
            panel.plot(
                epochs, running_min(column(run, NORM)), color=colour, lw=1.4, label="measured"
            )
            panel.plot(epochs, values, color=colour, lw=1.1, ls=":", label="bound, indicative")
            panel.set_yscale("log")
            panel.set_title(group.label, fontsize=8)
            panel.grid(alpha=0.25)
            panel.legend(frameon=False)
        for panel in panels[len(groups) :]:
            panel.set_visible(False)
        for panel in panels[-across:]:
            panel.set_xlabel("epochs")
        plain_ticks(panels[0].yaxis)
        panels[0].set_ylabel("full gradient norm, minimum so far")
        figure.suptitle(title)
    return figure
