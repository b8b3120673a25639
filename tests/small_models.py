"""Small models and random examples for tests of measurements."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from accelerando.models import Cnn


def random_examples(n: int, *, side: int, classes: int) -> tuple[Tensor, Tensor]:
    """Images, shape (n, 1, side, side), and labels, the same at every call."""
    random = torch.Generator().manual_seed(0)
    images = torch.randn(n, 1, side, side, generator=random)
    return images, torch.randint(0, classes, (n,), generator=random)


def small_cnn(norm: str) -> nn.Module:
    """A network for images of 8 x 8 pixels and 10 classes."""
    torch.manual_seed(1)
    return Cnn((1, 8, 8), 10, [6, 8], norm)


def tiny_mlp() -> nn.Module:
    """A network for images of 4 x 4 pixels and 3 classes, with few enough weights for a Hessian."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 3))


def curvlinops_hessian(model: nn.Module, images: Tensor, labels: Tensor, chunk: int) -> Any:
    """The Hessian of another library, over chunks of equal size to within one example."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from curvlinops import HessianLinearOperator

        chunks = torch.arange(len(labels)).tensor_split(-(-len(labels) // chunk))
        return HessianLinearOperator(
            model,
            nn.CrossEntropyLoss(),
            [p for p in model.parameters() if p.requires_grad],
            [(images[indices], labels[indices]) for indices in chunks],
        )
