"""One step against torch.optim.SGD, and batches against the permutation they come from."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import accelerando.training.step as step_module
from accelerando.data import in_memory
from accelerando.data.augmentation import Augmentation
from accelerando.data.in_memory import Batches, InMemoryDataset
from accelerando.models import Mlp
from accelerando.randomness import permutation
from accelerando.training.step import SgdStep

RULES = [
    (0.0, False, 0.0),
    (0.9, False, 0.0),
    (0.9, True, 0.0),
    (0.0, False, 0.01),
    (0.9, True, 0.01),
]


@pytest.mark.parametrize(("momentum", "nesterov", "weight_decay"), RULES)
def test_steps_like_torch(momentum: float, nesterov: bool, weight_decay: float) -> None:
    torch.manual_seed(0)
    ours = Mlp((1, 4, 4), 3, [5]).double()
    theirs = copy.deepcopy(ours)
    step = SgdStep(ours, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    optimizer = torch.optim.SGD(
        theirs.parameters(),
        lr=1.0,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
    )
    for rate in (0.1, 0.3, 0.05, 0.2):
        images = torch.randn(6, 1, 4, 4, dtype=torch.float64)
        labels = torch.randint(0, 3, (6,))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = cross_entropy(theirs(images), labels)
        loss.backward()
        optimizer.step()
        assert float(step(images, labels, rate)) == pytest.approx(6 * float(loss.detach()))
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-14)


def test_a_plain_step_enters_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """At small batches each of them would be felt."""
    monkeypatch.setattr(step_module, "over_team", None)
    monkeypatch.setattr(step_module, "matmul_precision", None)
    step = SgdStep(Mlp((1, 4, 4), 3, [5]))
    step(torch.randn(6, 1, 4, 4), torch.randint(0, 3, (6,)), 0.1)


def images(n: int) -> InMemoryDataset:
    """Images whose only pixel tells which example they are."""
    pixels = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1)
    return InMemoryDataset(pixels, torch.arange(n), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))


@pytest.mark.parametrize("size", [1, 3, 10, 97, 200])
def test_batches_follow_the_permutation_whatever_their_size(size: int) -> None:
    data, order = images(200), permutation(5, 2, 200)
    batches = Batches(data, seed=5)
    seen = [batches.at(2, offset, size) for offset in range(0, 200, size)]
    assert torch.cat([labels for _, labels in seen]).tolist() == order.tolist()
    assert torch.cat([x for x, _ in seen]).flatten().tolist() == order.tolist()


@pytest.mark.parametrize("channels_last", [True, False])
def test_batches_have_the_order_in_memory_that_is_asked_for(channels_last: bool) -> None:
    pixels = torch.randint(0, 256, (50, 3, 6, 5), dtype=torch.uint8)
    zeros, ones = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    flip = Augmentation(crop=1, flip=True)
    order = torch.channels_last if channels_last else torch.contiguous_format
    for augmentation in (None, flip):
        data = InMemoryDataset(pixels, torch.arange(50), zeros, ones, augmentation, channels_last)
        (read,) = data.read([torch.arange(7)])
        for images, _ in (read, Batches(data, seed=0).at(0, 8, 8)):
            assert images.is_contiguous(memory_format=order)
            assert images.is_contiguous() is not channels_last


def test_a_batch_depends_on_its_position_alone() -> None:
    data = images(200)
    here, there = Batches(data, seed=1), Batches(data, seed=1)
    for epoch, offset, size in [(0, 0, 8), (0, 64, 16), (3, 50, 10), (0, 8, 8), (0, 199, 40)]:
        fresh = Batches(data, seed=1).at(epoch, offset, size)
        for batches in (here, there):
            again = batches.at(epoch, offset, size)
            assert torch.equal(again[0], fresh[0])
            assert torch.equal(again[1], fresh[1])


def test_a_batch_larger_than_a_block_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "BLOCK_PIXELS", 50)
    n = 55
    data = InMemoryDataset(
        torch.zeros(n, 1, 1, 1, dtype=torch.uint8),
        torch.arange(n),
        torch.zeros(1, 1, 1),
        torch.ones(1, 1, 1),
    )
    _, labels = Batches(data, seed=0).at(0, 0, n)
    assert sorted(labels.tolist()) == list(range(n))


def test_permutations_differ_between_seeds_and_epochs() -> None:
    orders = [permutation(seed, epoch, 50) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(np.asarray(order).tolist()) for order in orders}) == 4
