"""The gradient norm over the training set as published code measures it, for comparison."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from accelerando.measure.chunks import Chunks
from accelerando.measure.preserve_state import chunk_gradient, preserve_state
from accelerando.measure.streaming_moments import squared_norms
from accelerando.torch_adapter import foreach_add_


class PublishedYardstick(NamedTuple):
    """How one published code measures the full gradient norm, on freshly augmented images.

    Args:
        batch_size: examples per batch; None for the current batch size of the schedule.
        batch_norm: "batch" (training mode) or "running" (evaluation mode).
        equal_weights: whether a smaller last batch counts as much as a complete one.
    """

    batch_size: int | None
    batch_norm: str
    equal_weights: bool


PUBLISHED = {
    # github.com/hikarumeda1030/incr_both_bs_lr, for arXiv 2409.08770
    "paper": PublishedYardstick(None, "batch", equal_weights=True),
    # github.com/hikarumeda1030/adaptive_scheduler, for arXiv 2508.05302
    "adaptive_scheduler": PublishedYardstick(100, "batch", equal_weights=False),
    # github.com/hikarumeda1030/tracking_cbs
    "tracking_cbs": PublishedYardstick(100, "running", equal_weights=False),
}
"""The yardsticks that ``measure.published`` can choose."""


def published_gradient_norm(
    model: nn.Module, batches: Chunks, *, batch_norm: str = "batch", equal_weights: bool = True
) -> float:
    """Compute the norm of a weighted sum of mini-batch gradients, as published code does.

    With the defaults, this is how the code for arXiv 2409.08770 measures the full gradient norm:
    BatchNorm in training mode, and every batch with the weight b/n, where b is the size of a
    complete batch. If b does not divide n, the weights add up to ceil(n/b) b/n > 1. Unlike in
    published code, the model's state does not change, and dropout is off.

    Args:
        model: the model; its state is preserved as by ``full_gradient``.
        batches: all training examples, in fresh random order and freshly augmented; a last, smaller
            batch included.
        batch_norm: "batch" or "running".
        equal_weights: False weights each batch by its number of examples.
    """
    examples, size = batches.examples, batches.largest
    with preserve_state(model, batch_norm=batch_norm) as (forward, parameters):
        total = [torch.zeros_like(p) for p in parameters]
        for images, labels in batches:
            gradients, _, _ = chunk_gradient(forward, parameters, images, labels)
            weight = (size if equal_weights else len(labels)) / examples
            foreach_add_(total, gradients, alpha=weight)
        batches.team.all_reduce(total)
    return float(squared_norms(total).sum().sqrt())
