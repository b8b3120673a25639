"""Measurements: they see a model and data, never a schedule, and leave both as they were."""

from accelerando.measure.full_gradient import FullGradient, full_gradient

__all__ = ["FullGradient", "full_gradient"]
