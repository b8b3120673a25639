"""Measurements: they see a model and data, never a schedule, and leave both as they were."""

from accelerando.measure.chunks import Chunks, Tensors, in_chunks
from accelerando.measure.curvature import sharpness
from accelerando.measure.evaluation import Evaluation, evaluate
from accelerando.measure.full_gradient import FullGradient, full_gradient
from accelerando.measure.published import published_gradient_norm

__all__ = [
    "Chunks",
    "Evaluation",
    "FullGradient",
    "Tensors",
    "evaluate",
    "full_gradient",
    "in_chunks",
    "published_gradient_norm",
    "sharpness",
]
