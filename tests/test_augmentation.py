"""Augmentation of batches, compared with torchvision's transforms of single images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as reference
from torch import Tensor

from accelerando.data.augmentation import Augmentation
from accelerando.data.in_memory import Batches, InMemoryDataset
from accelerando.distributed import Team

CPU = torch.device("cpu")


def random_images(n: int, channels: int, height: int, width: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, channels, height, width), generator=random)
    return pixels.to(torch.uint8)


@pytest.mark.parametrize("size", [(3, 32, 32), (1, 28, 28), (3, 31, 20), (3, 64, 64)])
@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(),
        Augmentation(crop=4),
        Augmentation(flip=True),
        Augmentation(rotation=15),
        Augmentation(crop=8, flip=True, rotation=180),
    ],
)
def test_augmented_images_equal_torchvision(
    augmentation: Augmentation, size: tuple[int, int, int]
) -> None:
    images = random_images(30, *size)
    table = augmentation.table(seed=0, epoch=3, examples=30, device=CPU)
    augmented = augmentation(images, table)
    assert augmented.dtype == torch.uint8
    differing = 0.0
    for number, image in enumerate(images):
        expected = reference.pad(image, [augmentation.crop])
        top, left = int(table.down[number]), int(table.right[number])
        expected = reference.crop(expected, top, left, size[1], size[2])
        if augmentation.flip and table.flip[number]:
            expected = reference.hflip(expected)
        angle = math.degrees(math.atan2(float(table.sine[number]), float(table.cosine[number])))
        if augmentation.rotation:
            expected = reference.rotate(expected, angle)
        differing += float((augmented[number] != expected).float().mean()) / 30
    # coordinates halfway between two pixels may be rounded either way
    assert differing == 0 if not augmentation.rotation else differing < 1e-3


def test_random_draws_have_the_distribution_of_torchvision() -> None:
    table = Augmentation(crop=4, flip=True, rotation=15).table(
        seed=1, epoch=0, examples=90_000, device=CPU
    )
    for shift in (table.down, table.right):
        counts = torch.bincount(shift, minlength=9)
        assert len(counts) == 9
        assert (counts / 10_000 - 1).abs().max() < 0.05
    assert float(table.flip.float().mean()) == pytest.approx(0.5, abs=0.01)
    angles = torch.rad2deg(torch.atan2(table.sine, table.cosine))
    assert float(angles.abs().max()) <= 15.0001
    assert float(angles.std()) == pytest.approx(30 / math.sqrt(12), rel=0.02)
    columns = np.stack([np.asarray(c, dtype=float) for c in (table.down, table.right, angles)])
    assert abs(np.corrcoef(columns) - np.eye(3)).max() < 0.02


def test_draws_depend_on_seed_and_epoch() -> None:
    augmentation = Augmentation(crop=4, flip=True, rotation=15)

    def table(seed: int, epoch: int) -> list[float]:
        return augmentation.table(seed=seed, epoch=epoch, examples=50, device=CPU).sine.tolist()

    assert table(0, 1) == table(0, 1)
    assert table(0, 1) != table(0, 2)
    assert table(0, 1) != table(1, 1)


@pytest.mark.parametrize("size", [1, 7, 64, 200])
def test_augmentation_is_independent_of_the_batch(size: int) -> None:
    data = InMemoryDataset(
        random_images(200, 3, 8, 8),
        torch.arange(200),
        torch.full((3, 1, 1), 100.0),
        torch.full((3, 1, 1), 50.0),
        Augmentation(crop=2, flip=True, rotation=30),
    )
    images, labels = Batches(data, seed=4).at(2, 0, 200)
    expected = dict(zip(labels.tolist(), images, strict=True))
    batches = Batches(data, seed=4)
    for offset in range(0, 200, size):
        for image, label in zip(*batches.at(2, offset, size), strict=True):
            assert torch.equal(image, expected[int(label)])


def test_process_may_have_an_empty_share_of_a_block() -> None:
    augmentation = Augmentation(crop=2, flip=True, rotation=30)
    ones = torch.ones(3, 1, 1)
    # images so large that a block consists of one batch
    data = InMemoryDataset(
        random_images(2, 3, 1500, 1500), torch.arange(2), ones, ones, augmentation
    )
    images, labels = Batches(data, seed=0, team=Team(1, 2)).at(0, 0, 1)
    assert (images.shape, labels.shape) == ((0, 3, 1500, 1500), (0,))


def test_negative_values_are_refused() -> None:
    with pytest.raises(ValueError, match="crop must be at least 0, got -1"):
        Augmentation(crop=-1)
    with pytest.raises(ValueError, match="rotation must be at least 0"):
        Augmentation(rotation=-5)
