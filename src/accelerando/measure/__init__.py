"""Measurements: they see a model and data, never a schedule, and leave both as they were."""

from accelerando.measure.curvature import sharpness
from accelerando.measure.evaluation import Evaluation, evaluate
from accelerando.measure.full_gradient import FullGradient, full_gradient
from accelerando.measure.published import published_gradient_norm

__all__ = [
    "Evaluation",
    "FullGradient",
    "evaluate",
    "full_gradient",
    "published_gradient_norm",
    "sharpness",
]
