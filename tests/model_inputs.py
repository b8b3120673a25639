"""Batches, weights and norms for the tests of models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CLASSES = 7

NORM_LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(channels // 8, channels),
    "none": nn.Identity,
}


def batch(*shape: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(*shape, generator=random, dtype=torch.float64)
    return images, torch.randint(0, CLASSES, shape[:1], generator=random)


def randomised(model: nn.Module) -> nn.Module:
    """Convert to float64 with random scales and biases, so that no two tensors are the same."""
    torch.manual_seed(5)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model.double()
