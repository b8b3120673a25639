"""Loss and accuracy on held-out examples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from accelerando.data.images import Images
from accelerando.measure.full_gradient import CHUNK
from accelerando.measure.untouched import untouched


class Evaluation(NamedTuple):
    """Mean loss and share of right answers on held-out examples."""

    loss: float
    accuracy: float


def evaluate(model: nn.Module, data: Images) -> Evaluation:
    """Mean loss and accuracy of ``model`` in evaluation mode; nothing is left changed."""
    loss = torch.zeros((), dtype=torch.float64, device=data.labels.device)
    correct = torch.zeros((), dtype=torch.int64, device=data.labels.device)
    with untouched(model) as (forward, _), torch.no_grad():
        for part in torch.split(torch.arange(len(data), device=data.labels.device), CHUNK):
            images, labels = data.take(part)
            scores = forward(images)
            loss += cross_entropy(scores, labels, reduction="sum")
            correct += (scores.argmax(1) == labels).sum()
    return Evaluation(float(loss) / len(data), int(correct) / len(data))
