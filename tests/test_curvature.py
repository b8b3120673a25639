"""The sharpness against eigenvalues of explicit Hessians."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev
from torch.nn.functional import cross_entropy

from accelerando.measure import sharpness
from small_models import random_examples, tiny_mlp


def test_sharpness_is_the_largest_eigenvalue_of_the_hessian() -> None:
    model, (images, labels) = tiny_mlp().double(), random_examples(60, side=4, classes=3)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    shapes = [p.shape for p in parameters.values()]
    flat = torch.cat([p.flatten() for p in parameters.values()])

    def loss(vector: Tensor) -> Tensor:
        pieces = torch.split(vector, [math.prod(shape) for shape in shapes])
        named = {n: v.view(s) for n, v, s in zip(parameters, pieces, shapes, strict=True)}
        return cross_entropy(functional_call(model, named, (images.double(),)), labels)

    exact = float(torch.linalg.eigvalsh(jacrev(grad(loss))(flat))[-1])
    state = copy.deepcopy(model.state_dict())
    for chunk in (7, 60):
        estimate = sharpness(model, images.double(), labels, chunk=chunk, tolerance=1e-8)
        assert estimate == pytest.approx(exact, rel=1e-6)
    assert sharpness(model, images.double(), labels) == pytest.approx(exact, rel=1e-2)
    after = model.state_dict()
    assert all(torch.equal(state[name], after[name]) for name in state)
    assert all(p.grad is None for p in model.parameters())


def test_sharpness_of_a_model_with_two_parameters() -> None:
    model = nn.Linear(1, 2, bias=False).double()
    images, labels = torch.ones(4, 1, dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        model.weight.zero_()
    # softmax of two equal scores: the Hessian is [[1/4, -1/4], [-1/4, 1/4]]
    assert sharpness(model, images, labels) == pytest.approx(0.5)


class Saddle(nn.Module):
    """Scores Σ a_i w_i² and 0: at w = 0 the loss of the first class has the Hessian -diag(a)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(5, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        score = (torch.tensor([3.0, 1.0, 0.2, -0.5, -0.1]) * self.w.square()).sum()
        return torch.stack([score, torch.zeros_like(score)]).expand(len(inputs), 2)


def test_sharpness_is_the_algebraically_largest_eigenvalue() -> None:
    """The eigenvalue of largest magnitude is -3."""
    estimate = sharpness(Saddle(), torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))
    assert estimate == pytest.approx(0.5)


def test_sharpness_of_a_perfect_fit_is_zero_and_of_nan_weights_nan() -> None:
    model, images, labels = nn.Linear(2, 3), torch.ones(4, 2), torch.zeros(4, dtype=torch.int64)
    with torch.no_grad():
        model.weight.zero_()
        # scores so far apart that the softmax is exactly one and zeros
        model.bias.copy_(torch.tensor([1e4, 0, 0]))
    assert sharpness(model, images, labels) == 0
    with torch.no_grad():
        model.bias.fill_(math.nan)
    assert math.isnan(sharpness(model, images, labels))
