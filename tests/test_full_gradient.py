"""The full gradient norm against autograd in float64 over the complete data set."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.measure import full_gradient
from accelerando.models import Cnn, Mlp
from small_models import curvlinops_hessian, random_examples, small_cnn, tiny_mlp

N = 41
CHUNKS = [1, 7, 20, 41, 1000]


def data() -> tuple[Tensor, Tensor]:
    return random_examples(N, side=8, classes=10)


def float64_norm(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Norm of the gradient of Σ_batches (c / n) mean loss, and that loss, in one autograd pass."""
    model = copy.deepcopy(model).double()
    total = sum(cross_entropy(model(x.double()), y, reduction="sum") for x, y in batches) / N
    assert isinstance(total, Tensor)
    gradients = torch.autograd.grad(total, list(model.parameters()))
    return float(torch.cat([g.flatten() for g in gradients]).norm()), float(total.detach())


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("model", [small_cnn("none"), Mlp((1, 8, 8), 10, [5])], ids=["cnn", "mlp"])
def test_norm_equals_autograd_over_all_examples(model: nn.Module, chunk: int) -> None:
    images, labels = data()
    norm, loss = float64_norm(model, [(images, labels)])
    result = full_gradient(model, images, labels, chunk=chunk)
    assert result.norm == pytest.approx(norm, rel=1e-5)
    assert result.loss == pytest.approx(loss, rel=1e-5)
    accuracy = (model(images).argmax(1) == labels).double().mean()
    assert result.accuracy == pytest.approx(float(accuracy))


@pytest.mark.parametrize("chunk", CHUNKS[1:])
def test_batch_norm_uses_the_statistics_of_equal_fixed_chunks(chunk: int) -> None:
    images, labels = data()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    model = small_cnn("batch").train()
    chunks = order.tensor_split(-(-N // chunk))
    assert max(map(len, chunks)) - min(map(len, chunks)) <= 1
    norm, _ = float64_norm(model, [(images[indices], labels[indices]) for indices in chunks])
    result = full_gradient(model, images, labels, chunk=chunk, order=order)
    assert result.norm == pytest.approx(norm, rel=1e-5)


def test_chunks_of_one_work_if_batch_norm_has_several_values_per_channel() -> None:
    images, labels = data()
    model = small_cnn("batch").train()
    norm, _ = float64_norm(model, [(images[i : i + 1], labels[i : i + 1]) for i in range(N)])
    assert full_gradient(model, images, labels, chunk=1).norm == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_running_statistics_make_the_norm_independent_of_the_chunk(chunk: int) -> None:
    images, labels = data()
    model = small_cnn("batch").train()
    model(images)  # moves the statistics away from 0 and 1
    norm, _ = float64_norm(model.eval(), [(images, labels)])
    result = full_gradient(model.train(), images, labels, chunk=chunk, batch_norm="running")
    assert result.norm == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_float64_is_exact_for_a_float32_model(norm: str) -> None:
    images, labels = random_examples(60, side=4, classes=3)
    model = Cnn((1, 4, 4), 3, [4], norm).train()
    reference = copy.deepcopy(model).double()
    chunks = torch.arange(60).tensor_split(4)
    total = (
        sum(
            cross_entropy(reference(images[c].double()), labels[c], reduction="sum") for c in chunks
        )
        / 60
    )
    assert isinstance(total, Tensor)
    gradients = torch.autograd.grad(total, list(reference.parameters()))
    exact = float(torch.cat([g.flatten() for g in gradients]).norm())
    state = copy.deepcopy(model.state_dict())
    result = full_gradient(model, images, labels, chunk=15, dtype=torch.float64)
    assert result.norm == pytest.approx(exact, rel=1e-13)
    after = model.state_dict()
    assert all(torch.equal(state[name], after[name]) for name in state)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_norm_and_loss_agree_with_curvlinops() -> None:
    images, labels = random_examples(50, side=4, classes=3)
    model = Mlp((1, 4, 4), 3, [7])
    gradients, loss = curvlinops_hessian(model, images, labels, 25).gradient_and_loss()
    result = full_gradient(model, images, labels, chunk=25)
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    assert result.norm == pytest.approx(float(norm), rel=1e-5)
    assert result.loss == pytest.approx(float(loss), rel=1e-5)


def test_layer_norms_equal_autograd_and_combine_to_the_norm() -> None:
    images, labels = random_examples(60, side=4, classes=3)
    model = Cnn((1, 4, 4), 3, [4, 5], "batch")
    result = full_gradient(model, images, labels, chunk=20, per_layer=True)
    assert result.per_layer is not None
    layers = {
        name: list(module.parameters(recurse=False))
        for name, module in model.named_modules()
        if list(module.parameters(recurse=False))
    }
    assert list(result.per_layer) == list(layers)
    assert math.hypot(*result.per_layer.values()) == pytest.approx(result.norm, rel=1e-9)
    model.train()
    chunks = torch.arange(60).tensor_split(3)
    total = sum(cross_entropy(model(images[c]), labels[c], reduction="sum") for c in chunks) / 60
    assert isinstance(total, Tensor)
    for name, parameters in layers.items():
        gradients = torch.autograd.grad(total, parameters, retain_graph=True)
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        assert result.per_layer[name] == pytest.approx(float(norm), rel=1e-5)


def test_many_chunks_have_the_same_loss_and_accuracy_as_one() -> None:
    images, labels = data()
    model = small_cnn("none")
    one_chunk, many_chunks = (full_gradient(model, images, labels, chunk=c) for c in (N, 1))
    assert many_chunks.accuracy == one_chunk.accuracy
    assert many_chunks.loss == pytest.approx(one_chunk.loss, rel=1e-6)


def test_invalid_arguments_are_rejected() -> None:
    images, labels = data()
    model = small_cnn("none")
    with pytest.raises(ValueError, match="chunk must be at least 1, got 0"):
        full_gradient(model, images, labels, chunk=0)
    with pytest.raises(ValueError, match="batch or running, got 'eval'"):
        full_gradient(model, images, labels, batch_norm="eval")
    with pytest.raises(ValueError, match="same length, at least 1, got 41 images and 3 labels"):
        full_gradient(model, images, labels[:3])
    with pytest.raises(ValueError, match="images must be a tensor, got ndarray"):
        full_gradient(model, images.numpy(), labels)
    one_hot = nn.functional.one_hot(labels).float()
    with pytest.raises(ValueError, match=r"got torch.float32 of shape \(41, 10\)"):
        full_gradient(model, images, one_hot)
    with pytest.raises(ValueError, match="labels must be at least 0, got -100"):
        full_gradient(model, images, labels.index_fill(0, torch.tensor([3]), -100))
    for order in (torch.arange(40), torch.zeros(41, dtype=torch.int64)):
        with pytest.raises(ValueError, match="order must be a permutation of the indices of 41"):
            full_gradient(model, images, labels, order=order)
    with torch.inference_mode(), pytest.raises(ValueError, match="measure outside it"):
        full_gradient(model, images, labels)


def without_running_statistics() -> nn.Module:
    norm = nn.BatchNorm1d(64, track_running_stats=False)
    return nn.Sequential(nn.Flatten(), norm, nn.Linear(64, 10))


def with_single_pixel_maps() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (small_cnn("none"), {"dtype": "float64"}, "dtype must be .* torch.float64, got 'float64'"),
        (small_cnn("none"), {"dtype": torch.int64}, "dtype must be .*, got torch.int64"),
        (small_cnn("none"), {"batch_norm": "published"}, "see published_gradient_norm"),
        (small_cnn("none").double(), {}, "images are torch.float32 but the model is torch.float64"),
        (small_cnn("batch"), {"variance": True}, "BatchNorm couples the examples"),
        (
            without_running_statistics(),
            {"batch_norm": "running", "variance": True},
            "couples the examples",
        ),
        (without_running_statistics(), {"chunk": 1}, "use a larger chunk"),
        (with_single_pixel_maps(), {"chunk": 1}, "use a larger chunk"),
        (small_cnn("none"), {"variance": True, "chunk": N}, "needs at least two chunks"),
    ],
)
def test_errors_name_the_argument_to_change(
    model: nn.Module, arguments: dict[str, Any], message: str
) -> None:
    images, labels = data()
    with pytest.raises(ValueError, match=message) as caught:
        full_gradient(model, images, labels, **{"chunk": 20, **arguments})
    assert "\n" not in str(caught.value)


def test_variance_is_available_with_running_statistics() -> None:
    result = full_gradient(
        small_cnn("batch"), *data(), chunk=9, variance=True, batch_norm="running"
    )
    assert result.variance is not None
    assert result.variance > 0


@pytest.mark.parametrize("chunk", [1, 20])
def test_noise_scale_is_variance_over_squared_norm(chunk: int) -> None:
    examples = random_examples(60, side=4, classes=3)
    result = full_gradient(tiny_mlp(), *examples, chunk=chunk, variance=True)
    assert result.variance is not None
    assert result.noise_scale == pytest.approx(result.variance / result.norm**2)
