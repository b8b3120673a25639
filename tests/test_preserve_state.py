"""What a measurement must leave as it was in models of an unusual make."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from accelerando.measure import full_gradient, sharpness
from test_full_gradient import data


@pytest.mark.parametrize("shared", [nn.Linear(64, 64), nn.PReLU()])
def test_a_module_that_is_used_twice_is_left_as_it_was(shared: nn.Module) -> None:
    images, labels = data()
    images = images.flatten(1)
    model = nn.Sequential(shared, nn.Tanh(), shared, nn.Linear(64, 10))
    before = list(model.parameters())
    found = full_gradient(model, images, labels, dtype=torch.float64)
    for one, other in zip(model.parameters(), before, strict=True):
        assert one is other
    assert found.norm == pytest.approx(full_gradient(model, images, labels).norm, rel=1e-5)


def test_a_model_that_is_frozen_is_named() -> None:
    images, labels = data()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)
    for measure in (full_gradient, sharpness):
        with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
            measure(model, images, labels)
