"""Variance, noise scale, sharpness, the published norm: against oracles that share no code."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn.functional import cross_entropy

from accelerando.measure import full_gradient, published_gradient_norm, sharpness
from accelerando.measure.chunks import Chunks, Tensors
from accelerando.models import Cnn, Mlp

N = 60


def data(n: int = N) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 4, 4, generator=random), torch.randint(0, 3, (n,), generator=random)


def tiny() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 3))


def per_example(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of every example, by vmap in float64; shape (n, parameters)."""
    model = copy.deepcopy(model).double()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(p: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, p, (x[None],)), y[None])

    found = vmap(grad(loss), (None, 0, 0))(parameters, images.double(), labels)
    return torch.cat([g.flatten(1) for g in found.values()], dim=1)


def test_chunks_of_one_give_the_variance_exactly() -> None:
    model, (images, labels) = tiny(), data()
    gradients = per_example(model, images, labels)
    exact = float((gradients - gradients.mean(0)).square().sum(1).mean())
    found = full_gradient(model, images, labels, chunk=1, variance=True, dtype=torch.float64)
    assert found.variance == pytest.approx(exact, rel=1e-10)
    assert found.noise_scale == pytest.approx(exact / float(gradients.mean(0).square().sum()))
    assert full_gradient(model, images, labels, chunk=1, variance=True).variance == pytest.approx(
        exact, rel=1e-5
    )


@pytest.mark.parametrize("chunk", [7, 20, 30])
def test_the_variance_is_the_formula_over_chunks(chunk: int) -> None:
    """S² = Σ c_k ‖ḡ_k - ḡ‖² / (K - 1), σ² = S² (n - 1) / n, chunk by chunk."""
    model, (images, labels) = tiny(), data()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    gradients = per_example(model, images, labels)
    parts = order.tensor_split(-(-N // chunk))
    mean = gradients.mean(0)
    total = sum(len(part) * (gradients[part].mean(0) - mean).square().sum() for part in parts)
    expected = float(total) / (len(parts) - 1) * (N - 1) / N
    found = full_gradient(
        model, images, labels, chunk=chunk, variance=True, order=order, dtype=torch.float64
    )
    assert found.variance == pytest.approx(expected, rel=1e-10)
    assert found.variance_error is not None
    assert math.isnan(found.variance_error) == (chunk == 30)


def test_the_variance_is_unbiased_and_its_error_honest() -> None:
    """Over many permutations: the mean is the exact variance, the spread what is claimed."""
    model, (images, labels) = tiny(), data(1200)
    gradients = per_example(model, images, labels)
    exact = float((gradients - gradients.mean(0)).square().sum(1).mean())
    random = torch.Generator().manual_seed(7)
    found = [
        full_gradient(
            model, images, labels, chunk=60, variance=True,
            order=torch.randperm(1200, generator=random),
        )
        for _ in range(400)
    ]  # fmt: skip
    values = np.array([f.variance for f in found], dtype=float)
    errors = np.array([f.variance_error for f in found], dtype=float)
    assert values.mean() == pytest.approx(exact, abs=4 * values.std() / 20)
    assert math.sqrt(float((errors**2).mean())) == pytest.approx(values.std(), rel=0.25)


def test_the_variance_does_not_depend_on_how_the_data_are_sorted() -> None:
    """In the order of their classes, as a folder of images has them."""
    model, (images, labels) = tiny(), data(1200)
    images = images + 2 * labels.view(-1, 1, 1, 1)
    by_class = labels.argsort()
    images, labels = images[by_class], labels[by_class]
    exact = full_gradient(model, images, labels, chunk=1, variance=True).variance
    found = full_gradient(model, images, labels, chunk=60, variance=True)
    assert exact is not None
    assert found.variance is not None
    assert found.variance_error is not None
    assert abs(found.variance - exact) < 4 * found.variance_error
    assert found.variance_error < 0.3 * exact
    assert found == full_gradient(model, images, labels, chunk=60, variance=True)


def test_the_variance_is_refused_where_it_cannot_be_had() -> None:
    images, labels = data()
    model = Cnn((1, 4, 4), 3, [4], "batch")
    with pytest.raises(ValueError, match="BatchNorm couples the examples"):
        full_gradient(model, images, labels, variance=True)
    full_gradient(model, images, labels, chunk=9, variance=True, batch_norm="running")
    with pytest.raises(ValueError, match="at least two chunks"):
        full_gradient(tiny(), images, labels, variance=True)


def test_layers_add_up_to_the_whole() -> None:
    model, (images, labels) = Cnn((1, 4, 4), 3, [4, 5], "batch"), data()
    found = full_gradient(model, images, labels, chunk=20, per_layer=True)
    assert found.per_layer is not None
    layers = [
        name for name, module in model.named_modules() if list(module.parameters(recurse=False))
    ]
    assert list(found.per_layer) == layers
    assert math.hypot(*found.per_layer.values()) == pytest.approx(found.norm, rel=1e-9)
    x, y = images.requires_grad_(False), labels
    parts = torch.arange(N).tensor_split(3)
    model.train()
    total = sum(cross_entropy(model(x[p]), y[p], reduction="sum") for p in parts) / N
    assert isinstance(total, Tensor)
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own:
            parts_of = torch.autograd.grad(total, own, retain_graph=True)
            norm = torch.cat([g.flatten() for g in parts_of]).norm()
            assert found.per_layer[name] == pytest.approx(float(norm), rel=1e-5)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_float64_is_exact_and_leaves_float32_behind(norm: str) -> None:
    model, (images, labels) = Cnn((1, 4, 4), 3, [4], norm).train(), data()
    reference = copy.deepcopy(model).double()
    parts = torch.arange(N).tensor_split(4)
    total = (
        sum(cross_entropy(reference(images[p].double()), labels[p], reduction="sum") for p in parts)
        / N
    )
    assert isinstance(total, Tensor)
    gradients = torch.autograd.grad(total, list(reference.parameters()))
    exact = float(torch.cat([g.flatten() for g in gradients]).norm())
    state = copy.deepcopy(model.state_dict())
    found = full_gradient(model, images, labels, chunk=15, dtype=torch.float64)
    assert found.norm == pytest.approx(exact, rel=1e-13)
    after = model.state_dict()
    assert all(torch.equal(state[name], after[name]) for name in state)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def curvature(model: nn.Module, images: Tensor, labels: Tensor, chunk: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from curvlinops import HessianLinearOperator

        parts = torch.arange(len(labels)).tensor_split(-(-len(labels) // chunk))
        return HessianLinearOperator(
            model,
            nn.CrossEntropyLoss(),
            [p for p in model.parameters() if p.requires_grad],
            [(images[part], labels[part]) for part in parts],
        )


def test_curvlinops_has_the_same_gradient() -> None:
    model, (images, labels) = Mlp((1, 4, 4), 3, [7]), data(50)
    gradients, loss = curvature(model, images, labels, 25).gradient_and_loss()
    found = full_gradient(model, images, labels, chunk=25)
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    assert found.norm == pytest.approx(float(norm), rel=1e-5)
    assert found.loss == pytest.approx(float(loss), rel=1e-5)


def test_sharpness_is_the_largest_eigenvalue() -> None:
    model, (images, labels) = tiny().double(), data()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    shapes = [p.shape for p in parameters.values()]
    flat = torch.cat([p.flatten() for p in parameters.values()])

    def loss(vector: Tensor) -> Tensor:
        pieces = torch.split(vector, [math.prod(shape) for shape in shapes])
        named = {n: v.view(s) for n, v, s in zip(parameters, pieces, shapes, strict=True)}
        return cross_entropy(functional_call(model, named, (images.double(),)), labels)

    exact = float(torch.linalg.eigvalsh(jacrev(grad(loss))(flat))[-1])
    state = copy.deepcopy(model.state_dict())
    for chunk in (7, N):
        found = sharpness(model, images.double(), labels, chunk=chunk, tolerance=1e-8)
        assert found == pytest.approx(exact, rel=1e-6)
    assert sharpness(model, images.double(), labels) == pytest.approx(exact, rel=1e-2)
    after = model.state_dict()
    assert all(torch.equal(state[name], after[name]) for name in state)
    assert all(p.grad is None for p in model.parameters())


def test_sharpness_of_two_parameters() -> None:
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


def test_sharpness_is_not_the_curvature_of_a_maximum() -> None:
    found = sharpness(Saddle(), torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))
    assert found == pytest.approx(0.5)


def test_sharpness_of_a_perfect_fit_and_of_no_number() -> None:
    """Scores so far apart that the softmax is exactly one and zeros."""
    model, images, labels = nn.Linear(2, 3), torch.ones(4, 2), torch.zeros(4, dtype=torch.int64)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([1e4, 0, 0]))
    assert sharpness(model, images, labels) == 0
    with torch.no_grad():
        model.bias.fill_(math.nan)
    assert math.isnan(sharpness(model, images, labels))


def in_order(images: Tensor, labels: Tensor, size: int) -> Chunks:
    """Batches of ``size``, the last one smaller."""
    return Chunks(Tensors(images, labels), torch.split(torch.arange(len(labels)), size))


def test_the_published_norm_is_the_plain_mean_in_training_mode() -> None:
    """Against the loop that published code has, with all its side effects."""
    model, (images, labels) = Cnn((1, 4, 4), 3, [4], "batch").train(), data()
    state = copy.deepcopy(model.state_dict())
    batches = [(images[i : i + 7], labels[i : i + 7]) for i in range(0, N, 7)]
    found = published_gradient_norm(model, in_order(images, labels, 7))
    after = model.state_dict()
    assert all(torch.equal(state[name], after[name]) for name in state)
    for x, y in batches:
        (cross_entropy(model(x), y) / len(batches)).backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    assert found == pytest.approx(float(torch.cat(gradients).norm()), rel=1e-5)
    assert found != pytest.approx(full_gradient(model, images, labels).norm, rel=1e-2)
