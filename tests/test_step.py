"""One step of SGD against torch.optim.SGD."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from accelerando.models import Mlp
from accelerando.training.step import SgdStep

SETTINGS = [
    (0.0, False, 0.0),
    (0.9, False, 0.0),
    (0.9, True, 0.0),
    (0.0, False, 0.01),
    (0.9, True, 0.01),
]


@pytest.mark.parametrize(("momentum", "nesterov", "weight_decay"), SETTINGS)
def test_steps_equal_those_of_torch(momentum: float, nesterov: bool, weight_decay: float) -> None:
    torch.manual_seed(0)
    model = Mlp((1, 4, 4), 3, [5]).double()
    reference = copy.deepcopy(model)
    step = SgdStep(model, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    optimizer = torch.optim.SGD(
        reference.parameters(),
        lr=1.0,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
    )
    for learning_rate in (0.1, 0.3, 0.05, 0.2):
        images = torch.randn(6, 1, 4, 4, dtype=torch.float64)
        labels = torch.randint(0, 3, (6,))
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.zero_grad()
        loss = cross_entropy(reference(images), labels)
        loss.backward()
        optimizer.step()
        assert float(step(images, labels, learning_rate)) == pytest.approx(6 * float(loss.detach()))
    for parameter, expected in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("micro_batch", [1, 7, 40, 64])
def test_gradients_of_micro_batches_add_up(micro_batch: int) -> None:
    torch.manual_seed(2)
    model, images, labels = Mlp((3, 8, 8), 3, [8]), torch.randn(40, 3, 8, 8), torch.arange(40) % 3
    gradients, loss = SgdStep(model).gradients(images, labels, 40)
    accumulated, sum_of_losses = SgdStep(model, micro_batch=micro_batch).gradients(
        images, labels, 40
    )
    assert float(sum_of_losses) == pytest.approx(float(loss), rel=1e-6)
    for a, b in zip(accumulated, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
