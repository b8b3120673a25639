"""Measurements leave models of all kinds, random states and global flags unchanged."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.measure import TensorExamples, full_gradient, sharpness, split_into_chunks
from accelerando.measure.full_gradient import full_gradient_of_chunks
from small_models import random_examples, small_cnn


def data() -> tuple[Tensor, Tensor]:
    return random_examples(41, side=8, classes=10)


@pytest.mark.parametrize("batch_norm", ["batch", "running"])
def test_model_and_random_state_are_bitwise_unchanged(batch_norm: str) -> None:
    images, labels = data()
    model = nn.Sequential(small_cnn("batch"), nn.Dropout(0.5)).train()
    model[0].eval()
    cross_entropy(model(images), labels).backward()
    state = copy.deepcopy(model.state_dict())
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    training_modes = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()
    first = full_gradient(model, images, labels, chunk=9, batch_norm=batch_norm)
    assert all(
        torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True)
    )
    after = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(after) == len(gradients)
    assert all(torch.equal(a, b) for a, b in zip(gradients, after, strict=True))
    assert training_modes == [module.training for module in model.modules()]
    assert torch.equal(random_state, torch.get_rng_state())
    assert first == full_gradient(model, images, labels, chunk=9, batch_norm=batch_norm)


def test_an_interrupted_pass_leaves_the_model_unchanged() -> None:
    images, labels = data()
    model = small_cnn("batch").train()
    state = copy.deepcopy(model.state_dict())
    calls = iter([None, None, KeyboardInterrupt()])

    def check_interrupt() -> None:
        if (error := next(calls)) is not None:
            raise error

    examples = TensorExamples(images, labels)
    with pytest.raises(KeyboardInterrupt):
        chunks = split_into_chunks(examples, 9, check_interrupt=check_interrupt)
        full_gradient_of_chunks(model, chunks)
    assert all(
        torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True)
    )
    assert all(module.training for module in model.modules())


class Unusual(nn.Module):
    """Has tied, frozen and unused weights, a buffer that changes, and random numbers."""

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
def test_an_unusual_model_is_unchanged(dtype: torch.dtype | None) -> None:
    images, labels = data()
    model = Unusual().train()
    torch.manual_seed(2)
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    with pytest.MonkeyPatch.context() as patch:  # a CPU model must not affect any GPU
        patch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("seeded the GPUs"))
        first, second = (full_gradient(model, images, labels, dtype=dtype) for _ in range(2))
    assert first == second
    assert model.calls == 0
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()
    assert [p.requires_grad for p in model.frozen.parameters()] == [False, False]


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_tied_frozen_and_unused_weights_are_measured_correctly(
    dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = data()
    model = Unusual()
    for module in (random, np.random, torch):
        name = "random" if module is random else "rand"
        monkeypatch.setattr(module, name, lambda *_: torch.zeros(()))
    exact = copy.deepcopy(model).double()
    used = [exact.first.weight, exact.first.bias, exact.second.bias]
    gradients = torch.autograd.grad(cross_entropy(exact(images.double()), labels), used)
    norms = [float(g.norm()) for g in gradients]
    result = full_gradient(model, images, labels, chunk=7, dtype=dtype, per_layer=True)
    assert result.norm == pytest.approx(math.hypot(*norms), rel=1e-5)
    assert result.per_layer == pytest.approx(
        {"first": math.hypot(*norms[:2]), "second": norms[2], "unused": 0}, rel=1e-5
    )
    assert sharpness(model, images, labels) > 0


@pytest.mark.parametrize("measure", [full_gradient, sharpness])
def test_a_frozen_model_is_rejected(measure: Callable[..., object]) -> None:
    model = small_cnn("none").requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
        measure(model, *data())


@pytest.mark.parametrize("shared", [nn.Linear(64, 64), nn.PReLU()])
def test_a_module_used_twice_keeps_its_parameters(shared: nn.Module) -> None:
    images, labels = data()
    images = images.flatten(1)
    model = nn.Sequential(shared, nn.Tanh(), shared, nn.Linear(64, 10))
    before = list(model.parameters())
    result = full_gradient(model, images, labels, dtype=torch.float64)
    assert all(a is b for a, b in zip(model.parameters(), before, strict=True))
    assert result.norm == pytest.approx(full_gradient(model, images, labels).norm, rel=1e-5)


def scale_randomly(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x * np.random.rand() * random.random() for x in inputs)


def test_numpy_and_python_random_states_are_saved_only_if_needed() -> None:
    """Saving them is slow; a hook, however, may use them."""
    images, labels = data()
    model = small_cnn("batch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "get_state", lambda: pytest.fail("saved"))
        full_gradient(model, images, labels)
    model.register_forward_pre_hook(scale_randomly)
    before = np.random.get_state()[1], random.getstate()
    assert full_gradient(model, images, labels) == full_gradient(model, images, labels)
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])
    assert before[1] == random.getstate()


class Tf32Recorder(nn.Linear):
    """Records whether TF32 is allowed during its forward pass."""

    def forward(self, inputs: Tensor) -> Tensor:
        self.allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        return super().forward(inputs)


def test_autocast_of_the_caller_is_disabled() -> None:
    images, labels = data()
    model = small_cnn("batch")
    exact, rough = (full_gradient(model, images, labels, dtype=d) for d in (None, torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        assert full_gradient(model, images, labels) == exact
        assert full_gradient(model, images, labels, dtype=torch.bfloat16) == rough != exact
        assert torch.is_autocast_enabled("cpu")


def test_tf32_of_the_caller_is_disabled() -> None:
    images, labels = data()
    model, backends = Tf32Recorder(64, 10), (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = True
        full_gradient(model, images.flatten(1), labels)
        assert [backend.allow_tf32 for backend in backends] == [True, True]
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value
    assert model.allowed == (False, False)
