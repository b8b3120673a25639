"""Images and labels on the device, and batches of them without a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accelerando.data.augmentation import Augmentation
from accelerando.data.source import Arrays
from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.randomness import permutation
from accelerando.schedule import Plan, Progress

BLOCK = 2**21
"""Pixels prepared at once: at small batches this is most of what a loader would cost."""
ALIGNED = 64
"""Bytes. Of a batch that begins elsewhere in memory a matrix product may round otherwise, and where
it begins in its block depends on where a run went on: such batches are copied."""


@dataclass(frozen=True)
class Images:
    """A labelled set on one device.

    Args:
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        mean: float32, shape (channels, 1, 1), in the units of the stored pixels.
        std: likewise.
        augmentation: of the training view; None for none.
        channels_last: the order in memory that a model is given.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    augmentation: Augmentation | None = None
    channels_last: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, images: Tensor) -> Tensor:
        """What a model is given: float32, zero mean and unit deviation per channel."""
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.to(torch.float32, memory_format=order).sub_(self.mean).div_(self.std)

    def read(self, parts: Sequence[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and labels of each part; no augmentation."""
        for part in parts:
            yield self.normalised(self.images[part]), self.labels[part]

    def augmented(self, *, seed: int, epoch: int) -> View:
        """The training set as it is seen in one epoch."""
        return View(self, seed, epoch)

    def batches(
        self, plan: Plan, *, seed: int, start: Progress, team: Team = SINGLE_PROCESS
    ) -> Batches:
        """The batches of a run, by position."""
        return Batches(self, seed=seed, team=team)


class View:
    """A training set as it is seen in one epoch, augmented."""

    def __init__(self, data: Images, seed: int, epoch: int) -> None:
        self._data, self.labels = data, data.labels
        self._table = None
        if data.augmentation is not None:
            self._table = data.augmentation.table(
                seed=seed, epoch=epoch, examples=len(data), device=data.labels.device
            )

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images, augmented, and labels of some examples."""
        images = self._data.images[indices]
        if self._table is not None and self._data.augmentation is not None:
            images = self._data.augmentation(images, self._table.take(indices))
        return self._data.normalised(images), self._data.labels[indices]

    def read(self, parts: Sequence[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        everything = torch.arange(len(self._data), device=self.labels.device)
        for part in parts:
            yield self.take(everything[part])


def on_device(
    arrays: Arrays,
    device: torch.device,
    *,
    augmentation: Augmentation | None = None,
    channels_last: bool = False,
) -> tuple[Images, Images]:
    """The training and the test set of ``arrays`` on ``device``.

    On the CPU nothing is copied: processes share the pages of the cache's file.
    """
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
        for values in (arrays.mean, arrays.std)
    )

    def put(images: Tensor, labels: Tensor, augmentation: Augmentation | None) -> Images:
        return Images(images.to(device), labels.to(device), mean, std, augmentation, channels_last)

    train, train_labels, test, test_labels = (
        torch.from_numpy(array)
        for array in (
            arrays.train_images,
            arrays.train_labels,
            arrays.test_images,
            arrays.test_labels,
        )
    )
    return put(train, train_labels, augmentation), put(test, test_labels, None)


class Batches:
    """Batches of a training set by position: a pure function, with the current block kept.

    A block of several batches is gathered, augmented and normalised at once, and each batch is a
    view of it. Of several processes each has its share of every batch.
    """

    def __init__(self, data: Images, *, seed: int, team: Team = SINGLE_PROCESS) -> None:
        self._data, self._seed, self._team = data, seed, team
        self._epoch, self._size = -1, 0
        self._ready: dict[int, tuple[Tensor, Tensor]] = {}
        self._block = max(1, BLOCK // data.images[0, 0].numel())

    def at(self, epoch: int, offset: int, size: int) -> tuple[Tensor, Tensor]:
        """This process's share of the batch that begins at ``offset``; the last may be smaller."""
        if (epoch, size) != (self._epoch, self._size) or offset not in self._ready:
            self._prepare(epoch, offset, size)
        return self._ready[offset]

    def _prepare(self, epoch: int, offset: int, size: int) -> None:
        examples = len(self._data)
        if epoch != self._epoch:
            order = permutation(self._seed, epoch, examples)
            self._order = torch.from_numpy(order).to(self._data.labels.device)
            self._view = self._data.augmented(seed=self._seed, epoch=epoch)
        self._epoch, self._size = epoch, size
        places = range(offset, min(offset + max(size, self._block), examples), size)
        batches = [self._order[begin : begin + size] for begin in places]
        mine = [batch[self._team.share(len(batch))] for batch in batches]
        images, labels = self._view.take(torch.cat(mine))
        counts = [len(share) for share in mine]
        shares = torch.split(images, counts)
        if images.shape[1:].numel() * images.element_size() % ALIGNED:
            shares = tuple(share.clone() for share in shares)
        parts = zip(shares, torch.split(labels, counts), strict=True)
        self._ready = dict(zip(places, parts, strict=True))
