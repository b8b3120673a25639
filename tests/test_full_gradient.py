"""The full gradient against float64 autograd over the whole set, and its lack of side effects."""

from __future__ import annotations

import copy
import gc
import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.measure import Tensors, full_gradient, in_chunks, sharpness
from accelerando.measure.full_gradient import full_gradient_over
from accelerando.models import Cnn, Mlp

N = 41
CHUNKS = [1, 7, 20, 41, 1000]


def data() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(N, 1, 8, 8, generator=random)
    return images, torch.randint(0, 10, (N,), generator=random)


def make(norm: str) -> nn.Module:
    torch.manual_seed(1)
    return Cnn((1, 8, 8), 10, [6, 8], norm)


def float64_norm(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Norm of the gradient of Σ_batches (c / n) mean loss, and that loss, by one autograd pass."""
    model = copy.deepcopy(model).double()
    total = sum(cross_entropy(model(x.double()), y, reduction="sum") for x, y in batches) / N
    assert isinstance(total, Tensor)
    gradients = torch.autograd.grad(total, list(model.parameters()))
    return float(torch.cat([g.flatten() for g in gradients]).norm()), float(total.detach())


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("model", [make("none"), Mlp((1, 8, 8), 10, [5])], ids=["cnn", "mlp"])
def test_equals_autograd_over_the_whole_set(model: nn.Module, chunk: int) -> None:
    images, labels = data()
    norm, loss = float64_norm(model, [(images, labels)])
    result = full_gradient(model, images, labels, chunk=chunk)
    assert result.norm == pytest.approx(norm, rel=1e-5)
    assert result.loss == pytest.approx(loss, rel=1e-5)
    right = (model(images).argmax(1) == labels).double().mean()
    assert result.accuracy == pytest.approx(float(right))


@pytest.mark.parametrize("chunk", CHUNKS[1:])
def test_batch_norm_uses_the_statistics_of_equal_fixed_chunks(chunk: int) -> None:
    images, labels = data()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    model = make("batch").train()
    parts = order.tensor_split(-(-N // chunk))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    norm, _ = float64_norm(model, [(images[part], labels[part]) for part in parts])
    result = full_gradient(model, images, labels, chunk=chunk, order=order)
    assert result.norm == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_running_statistics_do_not_depend_on_the_chunk(chunk: int) -> None:
    images, labels = data()
    model = make("batch").train()
    model(images)  # moves the statistics away from 0 and 1
    norm, _ = float64_norm(model.eval(), [(images, labels)])
    result = full_gradient(model.train(), images, labels, chunk=chunk, batch_norm="running")
    assert result.norm == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("batch_norm", ["batch", "running"])
def test_leaves_everything_bitwise_as_it_was(batch_norm: str) -> None:
    images, labels = data()
    model = nn.Sequential(make("batch"), nn.Dropout(0.5)).train()
    model[0].eval()
    cross_entropy(model(images), labels).backward()
    state = copy.deepcopy(model.state_dict())
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    first = full_gradient(model, images, labels, chunk=9, batch_norm=batch_norm)
    assert all(
        torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True)
    )
    after = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(after) == len(gradients)
    assert all(torch.equal(a, b) for a, b in zip(gradients, after, strict=True))
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(random, torch.get_rng_state())
    assert first == full_gradient(model, images, labels, chunk=9, batch_norm=batch_norm)


def test_a_pass_that_is_given_up_leaves_the_model_as_it_was() -> None:
    images, labels = data()
    model = make("batch").train()
    state = copy.deepcopy(model.state_dict())
    calls = iter([None, None, KeyboardInterrupt()])

    def check_interrupt() -> None:
        if (error := next(calls)) is not None:
            raise error

    with pytest.raises(KeyboardInterrupt):
        full_gradient_over(
            model, in_chunks(Tensors(images, labels), 9, check_interrupt=check_interrupt)
        )
    assert all(
        torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True)
    )
    assert all(module.training for module in model.modules())


def test_refuses_what_it_cannot_measure() -> None:
    images, labels = data()
    with pytest.raises(ValueError, match="chunk must be at least 1, got 0"):
        full_gradient(make("none"), images, labels, chunk=0)
    with pytest.raises(ValueError, match="batch or running, got 'eval'"):
        full_gradient(make("none"), images, labels, batch_norm="eval")
    with pytest.raises(ValueError, match="as many, at least 1: 41, 3"):
        full_gradient(make("none"), images, labels[:3])
    with pytest.raises(ValueError, match="images must be a tensor, got ndarray"):
        full_gradient(make("none"), images.numpy(), labels)
    one_hot = nn.functional.one_hot(labels).float()
    with pytest.raises(ValueError, match=r"got torch.float32 of shape \(41, 10\)"):
        full_gradient(make("none"), images, one_hot)
    with pytest.raises(ValueError, match="labels must be at least 0, got -100"):
        full_gradient(make("none"), images, labels.index_fill(0, torch.tensor([3]), -100))
    for order in (torch.arange(40), torch.zeros(41, dtype=torch.int64)):
        with pytest.raises(ValueError, match="order must be a permutation of 41 examples"):
            full_gradient(make("none"), images, labels, order=order)


def test_the_mean_is_of_float32_also_where_the_model_is_not() -> None:
    """In bfloat16 what one chunk in hundreds adds is rounded away."""
    random = torch.Generator().manual_seed(0)
    images = torch.randn(2000, 6, generator=random).bfloat16()
    labels = torch.randint(0, 3, (2000,), generator=random)
    torch.manual_seed(1)
    model = nn.Linear(6, 3).bfloat16()
    exact = full_gradient(model, images, labels, dtype=torch.float64)
    found = full_gradient(model, images, labels, chunk=2)
    assert found.norm == pytest.approx(exact.norm, rel=3e-3)


class Counting(nn.Module):
    """A model that counts the tensors with the shape of its weight, at every forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.counts = nn.Linear(23, 17, bias=False), list[int]()

    def forward(self, inputs: Tensor) -> Tensor:
        everything = [t for t in gc.get_objects() if type(t) in (Tensor, nn.Parameter)]
        self.counts.append(sum(t.shape == (17, 23) for t in everything))
        result: Tensor = self.layer(inputs)
        return result


def test_only_the_mean_is_kept_from_chunk_to_chunk() -> None:
    model = Counting()
    full_gradient(model, torch.randn(40, 23), torch.randint(0, 17, (40,)), chunk=10)
    assert model.counts == [1, 2, 2, 2]  # the weight, then the mean too


class Odd(nn.Module):
    """What models may have: tied, frozen and unused weights, buffers that move, randomness."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second, self.unused = (nn.Linear(64, 64) for _ in range(3))
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(64, 10).requires_grad_(False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.calls: Tensor

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        scale = 1 + random.random() + np.random.rand() + float(torch.rand(()))
        return self.frozen(self.second(torch.tanh(self.first(images.flatten(1) * scale))))


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_a_model_of_any_kind_is_left_as_it_was(dtype: torch.dtype | None) -> None:
    images, labels = data()
    model = Odd().train()
    torch.manual_seed(2)
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    with pytest.MonkeyPatch.context() as patch:  # the GPUs of a model that is not on one
        patch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("seeded the GPUs"))
        first, again = (full_gradient(model, images, labels, dtype=dtype) for _ in range(2))
    assert first == again
    assert model.calls == 0
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()
    assert [p.requires_grad for p in model.frozen.parameters()] == [False, False]


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_tied_frozen_and_unused_weights(
    dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = data()
    model = Odd()
    for module in (random, np.random, torch):
        name = "random" if module is random else "rand"
        monkeypatch.setattr(module, name, lambda *_: torch.zeros(()))
    exact = copy.deepcopy(model).double()
    used = [exact.first.weight, exact.first.bias, exact.second.bias]
    parts = torch.autograd.grad(cross_entropy(exact(images.double()), labels), used)
    norms = [float(part.norm()) for part in parts]
    found = full_gradient(model, images, labels, chunk=7, dtype=dtype, per_layer=True)
    assert found.norm == pytest.approx(math.hypot(*norms), rel=1e-5)
    assert found.per_layer == pytest.approx(
        {"first": math.hypot(*norms[:2]), "second": norms[2], "unused": 0}, rel=1e-5
    )
    assert sharpness(model, images, labels) > 0
    with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
        full_gradient(model.requires_grad_(False), images, labels)


def noisy(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x * np.random.rand() * random.random() for x in inputs)


def test_states_that_a_model_cannot_draw_from_are_not_copied() -> None:
    """They are long; a hook, though, may draw from anything."""
    images, labels = data()
    model = make("batch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "get_state", lambda: pytest.fail("copied"))
        full_gradient(model, images, labels)
    model.register_forward_pre_hook(noisy)
    before = np.random.get_state()[1], random.getstate()
    assert full_gradient(model, images, labels) == full_gradient(model, images, labels)
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])
    assert before[1] == random.getstate()


def test_more_chunks_than_are_held_at_once() -> None:
    images, labels = data()
    model = make("none")
    whole, parts = (full_gradient(model, images, labels, chunk=chunk) for chunk in (N, 1))
    assert parts.accuracy == whole.accuracy
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)


class Twins(nn.Module):
    """Two weights whose gradients are one tensor, in every chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Parameter(torch.ones(64, 10)) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ (self.one + self.two)


def test_gradients_that_share_memory() -> None:
    images, labels = data()
    found = full_gradient(Twins(), images, labels, chunk=7)
    assert found.norm == pytest.approx(full_gradient(Twins(), images, labels).norm, rel=1e-5)


class Flags(nn.Linear):
    """A model that notes whether TF32 is allowed."""

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        return super().forward(inputs)


def test_a_callers_autocast_and_tf32_are_off_within() -> None:
    images, labels = data()
    model = make("batch")
    exact, rough = (full_gradient(model, images, labels, dtype=d) for d in (None, torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        assert full_gradient(model, images, labels) == exact
        assert full_gradient(model, images, labels, dtype=torch.bfloat16) == rough != exact
        assert torch.is_autocast_enabled("cpu")
    places = torch.backends.cudnn, torch.backends.cuda.matmul
    before, flags = [place.allow_tf32 for place in places], Flags(64, 10)
    try:
        for place in places:
            place.allow_tf32 = True
        full_gradient(flags, images.flatten(1), labels)
        assert [place.allow_tf32 for place in places] == [True, True]
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value
    assert flags.seen == (False, False)
