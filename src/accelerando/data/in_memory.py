"""Data sets in memory: images on the device, and batches of them without a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from accelerando.data.augmentation import Augmentation, AugmentationTable
from accelerando.data.source import Arrays
from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.randomness import permutation
from accelerando.schedule import Plan

BLOCK_PIXELS = 2**21
"""Pixels per channel to prepare at once: one by one, small batches would cost much more."""
ALIGNMENT = 64
"""Bytes. Matrix products may round differently for other alignments, and the place of a batch in
its block depends on where a run was resumed; batches in blocks that are not aligned are copied."""


@dataclass(frozen=True)
class InMemoryDataset:
    """Labelled images on one device.

    Args:
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        mean: float32, shape (channels, 1, 1), in units of the stored pixels.
        std: likewise.
        augmentation: augmentation of the training set, None for none.
        channels_last: whether normalised images are in channels-last memory format.
        table: the augmentation's random draws; if None, images are not augmented.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    augmentation: Augmentation | None = None
    channels_last: bool = False
    table: AugmentationTable | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, images: Tensor) -> Tensor:
        """Convert images to float32 with zero mean and unit standard deviation per channel."""
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.to(torch.float32, memory_format=order).sub_(self.mean).div_(self.std)

    def take(self, part: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return the normalised images and labels of a part."""
        images = self.images[part]
        if self.augmentation is not None and self.table is not None:
            images = self.augmentation(images, self.table.take(part))
        return self.normalised(images), self.labels[part]

    def read(self, parts: Sequence[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the normalised images and labels of each part."""
        return map(self.take, parts)

    def augmented(self, *, seed: int, epoch: int) -> InMemoryDataset:
        """Return the training set as augmented in one epoch."""
        if self.augmentation is None:
            return self
        device = self.labels.device
        table = self.augmentation.table(seed=seed, epoch=epoch, examples=len(self), device=device)
        return replace(self, table=table)

    def batches(self, plan: Plan, *, seed: int, team: Team = SINGLE_PROCESS) -> Batches:
        """Return the batches of a run."""
        return Batches(self, seed=seed, team=team)


def in_memory_datasets(
    arrays: Arrays,
    device: torch.device,
    *,
    augmentation: Augmentation | None = None,
    channels_last: bool = False,
) -> tuple[InMemoryDataset, InMemoryDataset]:
    """Move the training and the test set to ``device``.

    On the CPU nothing is copied: processes share the memory-mapped pages of the cache.
    """
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
        for values in (arrays.mean, arrays.std)
    )
    train, train_labels, test, test_labels = (
        torch.from_numpy(array).to(device)
        for array in (
            arrays.train_images,
            arrays.train_labels,
            arrays.test_images,
            arrays.test_labels,
        )
    )
    return (
        InMemoryDataset(train, train_labels, mean, std, augmentation, channels_last),
        InMemoryDataset(test, test_labels, mean, std, None, channels_last),
    )


class Batches:
    """Batches of a training set by position.

    Several batches are gathered, augmented and normalised at once, and each batch is a view of that
    block. In a distributed run every process gets its share of every batch.
    """

    def __init__(self, data: InMemoryDataset, *, seed: int, team: Team = SINGLE_PROCESS) -> None:
        self._data, self._seed, self._team = data, seed, team
        self._epoch, self._size = -1, 0
        self._block: dict[int, tuple[Tensor, Tensor]] = {}
        self._block_size = max(1, BLOCK_PIXELS // data.images[0, 0].numel())

    def at(self, epoch: int, offset: int, size: int) -> tuple[Tensor, Tensor]:
        """Return this process's share of the batch that starts after ``offset`` examples."""
        if (epoch, size) != (self._epoch, self._size) or offset not in self._block:
            self._prepare(epoch, offset, size)
        return self._block[offset]

    def _prepare(self, epoch: int, offset: int, size: int) -> None:
        examples = len(self._data)
        if epoch != self._epoch:
            order = permutation(self._seed, epoch, examples)
            self._order = torch.from_numpy(order).to(self._data.labels.device)
            self._augmented = self._data.augmented(seed=self._seed, epoch=epoch)
        self._epoch, self._size = epoch, size
        offsets = range(offset, min(offset + max(size, self._block_size), examples), size)
        batches = [self._order[begin : begin + size] for begin in offsets]
        shares = [batch[self._team.share(len(batch))] for batch in batches]
        block_images, block_labels = self._augmented.take(torch.cat(shares))
        sizes = [len(share) for share in shares]
        images, labels = torch.split(block_images, sizes), torch.split(block_labels, sizes)
        if block_images.shape[1:].numel() * block_images.element_size() % ALIGNMENT:
            images = tuple(batch.clone() for batch in images)
        self._block = dict(zip(offsets, zip(images, labels, strict=True), strict=True))
