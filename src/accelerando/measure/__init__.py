"""Measurements of a model on a data set, which leave both unchanged and never see a schedule."""

from accelerando.measure.chunks import Chunks, TensorExamples, split_into_chunks
from accelerando.measure.curvature import sharpness
from accelerando.measure.evaluation import Evaluation, evaluate
from accelerando.measure.full_gradient import FullGradient, full_gradient
from accelerando.measure.published import published_gradient_norm

__all__ = [
    "Chunks",
    "Evaluation",
    "FullGradient",
    "TensorExamples",
    "evaluate",
    "full_gradient",
    "published_gradient_norm",
    "sharpness",
    "split_into_chunks",
]
