"""Images and labels on the device, and batches of them without a DataLoader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from accelerando.data.source import Arrays
from accelerando.randomness import permutation

BLOCK = 2048
"""Examples prepared at once: at small batches this is most of what a loader would cost."""


@dataclass(frozen=True)
class Images:
    """A labelled set on one device.

    Args:
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        mean: float32, shape (channels, 1, 1), in the units of the stored pixels.
        std: likewise.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, images: Tensor) -> Tensor:
        """What a model is given: float32, zero mean and unit deviation per channel."""
        return images.to(torch.float32).sub_(self.mean).div_(self.std)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images and labels of some examples; no augmentation."""
        return self.normalised(self.images[indices]), self.labels[indices]


def on_device(arrays: Arrays, device: torch.device) -> tuple[Images, Images]:
    """The training and the test set of ``arrays`` on ``device``."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
        for values in (arrays.mean, arrays.std)
    )

    def put(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> Images:
        pixels, classes = (torch.tensor(array, device=device) for array in (images, labels))
        return Images(pixels, classes, mean, std)

    return (
        put(arrays.train_images, arrays.train_labels),
        put(arrays.test_images, arrays.test_labels),
    )


class Batches:
    """Batches of a training set by position: a pure function, with the current block kept.

    A block of several batches is gathered and normalised at once, and each batch is a view of it.
    """

    def __init__(self, data: Images, seed: int) -> None:
        self._data, self._seed = data, seed
        self._epoch, self._begin, self._end = -1, 0, 0

    def at(self, epoch: int, offset: int, size: int) -> tuple[Tensor, Tensor]:
        """Images and labels of the batch that begins at ``offset``; the last may be smaller."""
        end = min(offset + size, len(self._data))
        if epoch != self._epoch:
            order = permutation(self._seed, epoch, len(self._data))
            self._order = torch.from_numpy(order).to(self._data.labels.device)
            self._epoch, self._begin, self._end = epoch, 0, 0
        if not self._begin <= offset < end <= self._end:
            self._begin, self._end = offset, offset + size * max(1, BLOCK // size)
            self._end = min(self._end, len(self._data))
            self._block = self._data.take(self._order[self._begin : self._end])
        images, labels = self._block
        return images[offset - self._begin : end - self._begin], labels[
            offset - self._begin : end - self._begin
        ]
