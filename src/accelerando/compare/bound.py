"""The paper's bound on the gradient norm, computed from the measurements of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import yaml

from accelerando.build import bind
from accelerando.compare.groups import Group
from accelerando.compare.load import Run
from accelerando.compare.statistics import FloatArray
from accelerando.runs.folder import RunFolder
from accelerando.schedule import Problem, bound


def finite_bounds(groups: Sequence[Group]) -> list[tuple[Group, FloatArray]]:
    """Return the groups whose first run has a bound at some measurement, with these bounds."""
    curves = [(group, bound_curve(group.runs[0])) for group in groups]
    return [
        (group, curve) for group, curve in curves if curve is not None and np.isfinite(curve).any()
    ]


def bound_curve(run: Run) -> FloatArray | None:
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
