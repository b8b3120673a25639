"""The gradient norm as published code measures it, for comparison with the exact one."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from accelerando.measure.chunks import Chunks
from accelerando.measure.preserve_state import preserve_state
from accelerando.measure.streaming_moments import squared_norms


def published_gradient_norm(model: nn.Module, batches: Chunks) -> float:
    """Norm of the plain mean of mini-batch gradients, BatchNorm in training mode.

    This is a yardstick that changes with what it measures: the batches have the schedule's current
    size (so BatchNorm's statistics change with it), they are augmented, and a last, smaller batch
    weighs as much as a full one. Only the model's running statistics are not moved by it here.

    Args:
        model: the model; left as it was, as by ``full_gradient``.
        batches: those of an epoch, as the model was trained with them.
    """
    with preserve_state(model, batch_norm="batch") as (forward, parameters):
        total = [torch.zeros_like(p) for p in parameters]
        for images, labels in batches:
            loss = cross_entropy(forward(images), labels)
            torch._foreach_add_(
                total, torch.autograd.grad(loss, parameters, materialize_grads=True)
            )
        batches.team.all_reduce(total)
    return float(squared_norms(total).sum().sqrt()) / len(batches.parts)
