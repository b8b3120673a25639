"""The paper's bound on the gradient norm, computed from the measurements of a run."""

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
from accelerando.compare.curve_figures import STYLE, use_plain_ticks
from accelerando.compare.groups import Group
from accelerando.compare.load import Run
from accelerando.plotting import group_colours
from accelerando.runs.folder import RunFolder
from accelerando.schedule import Problem, bound


def bound_curve(run: Run) -> npt.NDArray[np.float64] | None:
    """Return the root of the bound at each measurement of ``run``, NaN where it is undefined.

    L is the largest measured sharpness, σ² the largest measured variance, f(θ_0) the initial loss,
    and f* = 0, a lower bound of any cross-entropy. L and σ² are properties of the path of the run,
    not of the loss, so the curve is indicative only.

    Returns:
        Shape (measurements,). None if sharpness or variance were not measured or are not valid in
        the bound, and for runs with momentum or weight decay, to which the theorem does not apply.
    """
    record = run.record
    if not {"sharpness", "gradient_variance"} <= set(record):
        return None
    if any(run.config.get(f"optimizer.{name}") for name in ("momentum", "weight_decay")):
        return None
    try:
        problem = Problem(
            # fmax ignores NaN: neither is measured at every row
            smoothness=float(np.fmax.reduce(record["sharpness"])),
            variance=float(np.fmax.reduce(record["gradient_variance"])),
            gap=float(record["empirical_loss"][0]),
        )
    except ValueError:
        return None
    config = yaml.safe_load(RunFolder(run.path).config.read_text())
    plan = bind(
        {key: value for key, value in config["scheduler"].items() if key != "name"},
        examples=config["dataset"]["examples"],
        epochs=config["epochs"],
    )
    values = np.full(len(record["step"]), math.nan)
    for row, step in enumerate(record["step"]):
        if step > 0:
            try:
                values[row] = math.sqrt(bound(plan.terms(int(step)), problem).total)
            except ValueError:  # from here on the learning rate is too large
                break
    return values


def groups_with_bound(groups: Sequence[Group]) -> list[Group]:
    """Return the groups whose first run has a bound at some measurement."""
    curves = [bound_curve(group.runs[0]) for group in groups]
    return [
        group
        for group, curve in zip(groups, curves, strict=True)
        if curve is not None and np.isfinite(curve).any()
    ]


def draw_bounds(
    groups: Sequence[Group], *, title: str, names: Sequence[str] | None = None
) -> Figure:
    """Draw the minimum norm so far of each group's first run, and the root of its bound."""
    with matplotlib.rc_context(STYLE):
        columns = min(len(groups), 4)
        rows = math.ceil(len(groups) / columns)
        figure = Figure(figsize=(1.2 + 2.9 * columns, 1 + 2.6 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        colours = group_colours(names or [group.name for group in groups])
        for panel, group in zip(panels, groups, strict=False):
            run = group.runs[0]
            epochs, bounds, colour = column(run, "epoch"), bound_curve(run), colours[group.name]
            assert bounds is not None
            panel.plot(
                epochs, running_min(column(run, NORM)), color=colour, lw=1.4, label="measured"
            )
            panel.plot(epochs, bounds, color=colour, lw=1.1, ls=":", label="bound, indicative")
            panel.set_yscale("log")
            panel.set_title(group.label, fontsize=8)
            panel.grid(alpha=0.25)
            panel.legend(frameon=False)
        for panel in panels[len(groups) :]:
            panel.set_visible(False)
        for panel in panels[-columns:]:
            panel.set_xlabel("epochs")
        use_plain_ticks(panels[0].yaxis)
        panels[0].set_ylabel("full gradient norm, minimum so far")
        figure.suptitle(title)
    return figure
