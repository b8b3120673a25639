"""The paper's bound for a run that was measured, to be drawn over its curve."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig, OmegaConf

from accelerando.compare.load import Run
from accelerando.config import plan_of
from accelerando.schedule import Problem, bound
from accelerando.tracking.folder import RunFolder


def bound_curve(run: Run) -> npt.NDArray[np.float64] | None:
    """Root of the bound at each measurement of ``run``, NaN where it is not defined.

    L is the largest sharpness that was measured, σ² the largest variance, f(θ_0) the loss at the
    start and f* zero, below which no cross-entropy lies. These are what the run happened to meet,
    not constants of the loss: the curve is indicative.

    Returns:
        Shape (measurements,); None where sharpness or variance were not measured.
    """
    record = run.record
    if not {"sharpness", "gradient_variance"} <= set(record):
        return None
    problem = Problem(
        smoothness=float(record["sharpness"].max()),
        variance=float(record["gradient_variance"].max()),
        gap=float(record["empirical_loss"].iloc[0]),
    )
    config = OmegaConf.load(RunFolder(run.path).config)
    assert isinstance(config, DictConfig)
    plan = plan_of(config)
    values = np.full(len(record), math.nan)
    for row, step in enumerate(record["step"]):
        if step > 0:
            try:
                values[row] = math.sqrt(bound(plan.terms(int(step)), problem).total)
            except ValueError:  # from here on the rate is too large
                break
    return values
