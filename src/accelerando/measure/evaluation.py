"""Loss and accuracy on held-out examples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from accelerando.measure.chunks import Chunks
from accelerando.measure.preserve_state import preserve_state


class Evaluation(NamedTuple):
    """Mean loss, and fraction of examples that are classified correctly."""

    loss: float
    accuracy: float


def evaluate(model: nn.Module, chunks: Chunks) -> Evaluation:
    """Compute the mean loss and accuracy in evaluation mode, without changing the model."""
    loss = torch.zeros((), dtype=torch.float64, device=chunks.device)
    correct = torch.zeros((), dtype=torch.int64, device=chunks.device)
    with preserve_state(model) as (forward, _), torch.no_grad():
        for images, labels in chunks:
            scores = forward(images)
            loss += cross_entropy(scores, labels, reduction="sum")
            correct += (scores.argmax(1) == labels).sum()
    chunks.team.all_reduce([loss, correct])
    return Evaluation(float(loss) / chunks.examples, int(correct) / chunks.examples)
