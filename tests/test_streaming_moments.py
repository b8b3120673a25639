"""Mean and variance of the gradient against per-example gradients."""

from __future__ import annotations

import copy
import gc
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from accelerando.measure import full_gradient
from accelerando.measure.streaming_moments import squared_norms
from small_models import random_examples, tiny_mlp

N = 60


def data(n: int = N) -> tuple[Tensor, Tensor]:
    return random_examples(n, side=4, classes=3)


def per_example_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient of each example by vmap, in float64, shape (n, parameters)."""
    model = copy.deepcopy(model).double()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(p: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, p, (x[None],)), y[None])

    gradients = vmap(grad(loss), (None, 0, 0))(parameters, images.double(), labels)
    return torch.cat([g.flatten(1) for g in gradients.values()], dim=1)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_squared_norms_of_small_and_large_tensors_are_exact(form: torch.memory_format) -> None:
    torch.manual_seed(0)
    images = [torch.randn(3, 5, 7, 11), torch.randn(11, 13, 31, 37), torch.randn(2, 70_001, 1, 1)]
    tensors = [t.to(memory_format=form) for t in images] + [torch.tensor(-3.0), torch.zeros(2, 0)]
    exact = [float((t.numpy().astype(np.float64) ** 2).sum()) for t in tensors]
    np.testing.assert_allclose(squared_norms(tensors).numpy(), exact, rtol=1e-12)


def test_variance_from_chunks_of_one_is_exact() -> None:
    model, (images, labels) = tiny_mlp(), data()
    gradients = per_example_gradients(model, images, labels)
    exact = float((gradients - gradients.mean(0)).square().sum(1).mean())
    result = full_gradient(model, images, labels, chunk=1, variance=True, dtype=torch.float64)
    assert result.variance == pytest.approx(exact, rel=1e-10)
    assert result.noise_scale == pytest.approx(exact / float(gradients.mean(0).square().sum()))
    assert full_gradient(model, images, labels, chunk=1, variance=True).variance == pytest.approx(
        exact, rel=1e-5
    )


@pytest.mark.parametrize("chunk", [7, 20, 30])
def test_variance_from_larger_chunks_follows_its_formula(chunk: int) -> None:
    """S² = Σ c_k ‖ḡ_k - ḡ‖² / (K - 1), σ² = S² (n - 1) / n."""
    model, (images, labels) = tiny_mlp(), data()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    gradients = per_example_gradients(model, images, labels)
    chunks = order.tensor_split(-(-N // chunk))
    mean = gradients.mean(0)
    total = sum(len(c) * (gradients[c].mean(0) - mean).square().sum() for c in chunks)
    expected = float(total) / (len(chunks) - 1) * (N - 1) / N
    result = full_gradient(
        model, images, labels, chunk=chunk, variance=True, order=order, dtype=torch.float64
    )
    assert result.variance == pytest.approx(expected, rel=1e-10)
    assert result.variance_error is not None
    assert math.isnan(result.variance_error) == (len(chunks) < 8)


def test_variance_is_unbiased_and_its_standard_error_is_right() -> None:
    """Over many permutations the mean is the exact variance and the spread the standard error."""
    model, (images, labels) = tiny_mlp(), data(1200)
    gradients = per_example_gradients(model, images, labels)
    exact = float((gradients - gradients.mean(0)).square().sum(1).mean())
    random = torch.Generator().manual_seed(7)
    results = [
        full_gradient(
            model, images, labels, chunk=60, variance=True,
            order=torch.randperm(1200, generator=random),
        )
        for _ in range(400)
    ]  # fmt: skip
    values = np.array([result.variance for result in results], dtype=float)
    errors = np.array([result.variance_error for result in results], dtype=float)
    assert values.mean() == pytest.approx(exact, abs=4 * values.std() / 20)
    assert math.sqrt(float((errors**2).mean())) == pytest.approx(values.std(), rel=0.25)


def test_variance_does_not_depend_on_the_order_of_the_data() -> None:
    """Sorted by class, as in a folder of images, and with classes that differ strongly."""
    model, (images, labels) = tiny_mlp(), data(1200)
    images = images + 2 * labels.view(-1, 1, 1, 1)
    by_class = labels.argsort()
    images, labels = images[by_class], labels[by_class]
    exact = full_gradient(model, images, labels, chunk=1, variance=True).variance
    result = full_gradient(model, images, labels, chunk=60, variance=True)
    assert exact is not None
    assert result.variance is not None
    assert result.variance_error is not None
    assert abs(result.variance - exact) < 4 * result.variance_error
    assert result.variance_error < 0.3 * exact
    assert result == full_gradient(model, images, labels, chunk=60, variance=True)


def test_mean_of_bfloat16_gradients_is_accumulated_in_float32() -> None:
    """In bfloat16 the contribution of one chunk in hundreds would be rounded away."""
    random = torch.Generator().manual_seed(0)
    images = torch.randn(2000, 6, generator=random).bfloat16()
    labels = torch.randint(0, 3, (2000,), generator=random)
    torch.manual_seed(1)
    model = nn.Linear(6, 3).bfloat16()
    exact = full_gradient(model, images, labels, dtype=torch.float64)
    result = full_gradient(model, images, labels, chunk=2)
    assert result.norm == pytest.approx(exact.norm, rel=3e-3)


class GradientCounter(nn.Module):
    """Records at every forward pass how many tensors with the shape of its weight exist."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.counts = nn.Linear(23, 17, bias=False), list[int]()

    def forward(self, inputs: Tensor) -> Tensor:
        tensors = [t for t in gc.get_objects() if type(t) in (Tensor, nn.Parameter)]
        self.counts.append(sum(t.shape == (17, 23) for t in tensors))
        result: Tensor = self.layer(inputs)
        return result


def test_only_the_mean_gradient_is_kept_between_chunks() -> None:
    model = GradientCounter()
    full_gradient(model, torch.randn(40, 23), torch.randint(0, 17, (40,)), chunk=10)
    assert model.counts == [1, 2, 2, 2]  # the weight, and from the second chunk on the mean


class SharedGradient(nn.Module):
    """Two weights for which autograd returns the same gradient tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Parameter(torch.ones(64, 10)) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ (self.one + self.two)


def test_gradients_that_share_memory_are_accumulated_separately() -> None:
    images, labels = random_examples(41, side=8, classes=10)
    result = full_gradient(SharedGradient(), images, labels, chunk=7)
    one_chunk = full_gradient(SharedGradient(), images, labels)
    assert result.norm == pytest.approx(one_chunk.norm, rel=1e-5)
