"""What a data set is before it meets a device: arrays, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Images and labels in memory, as stored; normalisation is in the units of the stored pixels.

    Args:
        train_images: uint8, shape (n, channels, height, width); ``test_images`` likewise.
        train_labels: int64, shape (n,); ``test_labels`` likewise.
        mean: per channel, of the training images; ``std`` likewise.
    """

    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Source(Protocol):
    """A data set as its YAML file describes it; ``load`` holds it to that description."""

    examples: int
    """Training examples, n."""

    def prepare(self) -> None:
        """Make sure the files are there, fetching them where that is possible.

        Raises:
            FileNotFoundError: they are not to be had; the message says every way to get them.
        """
        ...

    def load(self) -> Arrays: ...


def described(arrays: Arrays, *, examples: int, shape: Any, classes: int) -> Arrays:
    """Return ``arrays`` where they are what the YAML file says, else raise ValueError."""
    found = (len(arrays.train_images), list(arrays.train_images.shape[1:]))
    if found != (examples, list(shape)):
        raise ValueError(
            f"the data hold {found[0]} training images of shape {found[1]}, the dataset's settings "
            f"say examples={examples} shape={list(shape)}: make them agree"
        )
    largest = int(max(arrays.train_labels.max(), arrays.test_labels.max()))
    if largest >= classes:
        raise ValueError(
            f"the data hold the label {largest}, the dataset's settings say {classes=}"
        )
    return arrays
