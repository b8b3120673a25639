"""Schedules of batch size and learning rate: pure mathematics, no torch, no Hydra."""

from accelerando.schedule.batch_size import (
    ConstantBatch,
    ExponentialBatch,
    LinearBatch,
    ListedBatch,
)
from accelerando.schedule.learning_rate import (
    Constant,
    Cosine,
    Diminishing,
    Exponential,
    Linear,
    Listed,
    Polynomial,
    Scaled,
)
from accelerando.schedule.moment import BatchSize, LearningRate, Moment, Progress, Setting
from accelerando.schedule.plan import Plan, Terms
from accelerando.schedule.sampler import BatchSampler
from accelerando.schedule.scheduler import Scheduler
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
    "BatchSize",
    "Bound",
    "Constant",
    "ConstantBatch",
    "Cosine",
    "Diminishing",
    "Exponential",
    "ExponentialBatch",
    "LearningRate",
    "Linear",
    "LinearBatch",
    "Listed",
    "ListedBatch",
    "Moment",
    "Plan",
    "Polynomial",
    "Problem",
    "Progress",
    "Scaled",
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
