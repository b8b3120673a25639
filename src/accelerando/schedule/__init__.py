"""Schedules of batch size and learning rate, independent of torch and Hydra."""

from typing import Any

from accelerando.schedule.batch_size import (
    ConstantBatch,
    ExponentialBatch,
    LinearBatch,
    PiecewiseConstantBatch,
)
from accelerando.schedule.context import BatchSize, LearningRate, Progress, ScheduleContext, Setting
from accelerando.schedule.learning_rate import (
    BatchScaled,
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    PiecewiseConstant,
    Polynomial,
)
from accelerando.schedule.plan import Plan, Scheduler, Terms
from accelerando.schedule.renamed import RENAMED
from accelerando.schedule.sampler import BatchSampler
from accelerando.schedule.seesaw import Seesaw
from accelerando.schedule.theory import Bound, Problem, bound, crossing, growth_warning
from accelerando.schedule.warmup import (
    WarmupConstant,
    WarmupCosine,
    WarmupLinear,
    WarmupPolynomial,
)

__all__ = [
    "BatchSampler",
    "BatchScaled",
    "BatchSize",
    "Bound",
    "Constant",
    "ConstantBatch",
    "Cosine",
    "Exponential",
    "ExponentialBatch",
    "InverseSqrt",
    "LearningRate",
    "Linear",
    "LinearBatch",
    "PiecewiseConstant",
    "PiecewiseConstantBatch",
    "Plan",
    "Polynomial",
    "Problem",
    "Progress",
    "ScheduleContext",
    "Scheduler",
    "Seesaw",
    "Setting",
    "Terms",
    "WarmupConstant",
    "WarmupCosine",
    "WarmupLinear",
    "WarmupPolynomial",
    "bound",
    "crossing",
    "growth_warning",
]


def __getattr__(name: str) -> Any:
    """Resolve former class names, which existing YAML files and run folders may still use."""
    if current := RENAMED.get(f"{__name__}.{name}"):
        return globals()[current.rpartition(".")[2]]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
