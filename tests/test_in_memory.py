"""Batches of images in memory against the permutation that they come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from accelerando.data import in_memory
from accelerando.data.augmentation import Augmentation
from accelerando.data.in_memory import Batches, InMemoryDataset
from accelerando.randomness import permutation


def images(n: int) -> InMemoryDataset:
    """Images with one pixel, whose value is the index of the example."""
    pixels = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1)
    return InMemoryDataset(pixels, torch.arange(n), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))


@pytest.mark.parametrize("size", [1, 3, 10, 97, 200])
def test_batches_of_any_size_follow_the_permutation(size: int) -> None:
    data, order = images(200), permutation(5, 2, 200)
    batches = Batches(data, seed=5)
    seen = [batches.at(2, offset, size) for offset in range(0, 200, size)]
    assert torch.cat([labels for _, labels in seen]).tolist() == order.tolist()
    assert torch.cat([x for x, _ in seen]).flatten().tolist() == order.tolist()


@pytest.mark.parametrize("channels_last", [True, False])
def test_batches_have_the_requested_memory_format(channels_last: bool) -> None:
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


def test_a_batch_depends_only_on_its_position() -> None:
    data = images(200)
    first, second = Batches(data, seed=1), Batches(data, seed=1)
    for epoch, offset, size in [(0, 0, 8), (0, 64, 16), (3, 50, 10), (0, 8, 8), (0, 199, 40)]:
        fresh = Batches(data, seed=1).at(epoch, offset, size)
        for batches in (first, second):
            again = batches.at(epoch, offset, size)
            assert torch.equal(again[0], fresh[0])
            assert torch.equal(again[1], fresh[1])


def test_a_batch_larger_than_a_block_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
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
