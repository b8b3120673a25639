"""Loss and accuracy on held-out examples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from accelerando.measure.chunks import Chunks
from accelerando.measure.preserve_state import preserve_state


class Evaluation(NamedTuple):
    """Mean loss and share of right answers on held-out examples."""

    loss: float
    accuracy: float


def evaluate(model: nn.Module, chunks: Chunks) -> Evaluation:
    """Mean loss and accuracy of ``model`` in evaluation mode; nothing is left changed."""
    loss = torch.zeros((), dtype=torch.float64, device=chunks.device)
    right = torch.zeros((), dtype=torch.int64, device=chunks.device)
    with preserve_state(model) as (forward, _), torch.no_grad():
        for images, labels in chunks:
            scores = forward(images)
            loss += cross_entropy(scores, labels, reduction="sum")
            right += (scores.argmax(1) == labels).sum()
    chunks.team.all_reduce([loss, right])
    return Evaluation(float(loss) / chunks.examples, int(right) / chunks.examples)
