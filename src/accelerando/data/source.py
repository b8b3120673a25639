"""What a data set is before it meets a device: arrays, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from accelerando.data.stratify import stratified_indices


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Images and labels as stored; nobody writes into them, other processes may share them.

    Args:
        train_images: uint8, shape (n, channels, height, width); ``test_images`` likewise.
        train_labels: int64, shape (n,); ``test_labels`` likewise.
    """

    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Arrays(Decoded):
    """Images and labels in memory, and their normalisation in the units of the stored pixels.

    Args:
        mean: per channel, of the training images; ``std`` likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Source(Protocol):
    """A data set as its YAML file describes it; ``load`` holds it to that description."""

    examples: int
    """Training examples, n; fewer than there are take a part of them."""

    def prepare(self) -> None:
        """Make sure the files are there, fetching them where that is possible.

        Raises:
            FileNotFoundError: they are not to be had; the message says every way to get them.
        """
        ...

    def load(self) -> Any:
        """``Arrays`` in memory, or ``stream.Streams`` for what is too large for it."""
        ...


def normalised(decoded: Decoded, *, mean: Sequence[float], std: Sequence[float]) -> Arrays:
    """Add the normalisation, given in the units of the stored pixels."""
    return Arrays(
        train_images=decoded.train_images,
        train_labels=decoded.train_labels,
        test_images=decoded.test_images,
        test_labels=decoded.test_labels,
        mean=tuple(mean),
        std=tuple(std),
    )


def describe_mismatch(arrays: Arrays, *, examples: int, shape: Any, classes: int) -> Arrays:
    """Return ``arrays`` where they are what the YAML file says, or hold more training examples.

    Of more the same part is taken in every run, each class in its proportion.

    Raises:
        ValueError: they are something else.
    """
    shapes = [list(images.shape[1:]) for images in (arrays.train_images, arrays.test_images)]
    for part, found in zip(("training", "test"), shapes, strict=True):
        if found != list(shape):
            raise ValueError(
                f"the data hold {part} images of shape {found}, the dataset's settings say "
                f"shape={list(shape)}: make them agree"
            )
    _check_labels(arrays, classes)
    _check_normalisation(arrays)
    there = len(arrays.train_images)
    if not 1 <= examples <= there:
        raise ValueError(
            f"the data hold {there} training images, the dataset's settings say {examples=}: "
            "give that number, or a smaller one for a part of them"
        )
    if examples == there:
        return arrays
    # not by the run's seed: all seeds are to minimise the same loss
    chosen = np.sort(stratified_indices(arrays.train_labels, examples, np.random.default_rng(0)))
    return replace(
        arrays, train_images=arrays.train_images[chosen], train_labels=arrays.train_labels[chosen]
    )


def _check_labels(arrays: Arrays, classes: int) -> None:
    for part, images, labels in (
        ("training", arrays.train_images, arrays.train_labels),
        ("test", arrays.test_images, arrays.test_labels),
    ):
        if len(images) != len(labels):
            raise ValueError(f"the data hold {len(images)} {part} images, {len(labels)} labels")
        if len(labels) == 0:
            raise ValueError(f"the data hold no {part} images")
        if labels.min() < 0 or labels.max() >= classes:
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(
                f"the data hold the label {wrong}, the dataset's settings say {classes=}"
            )


def _check_normalisation(arrays: Arrays) -> None:
    channels = arrays.train_images.shape[1]
    for name, values in (("mean", arrays.mean), ("std", arrays.std)):
        if len(values) != channels:
            raise ValueError(f"{name} has {len(values)} values, the images {channels} channels")
    if min(arrays.std) <= 0:
        raise ValueError(f"std must be above 0 in every channel, got {list(arrays.std)}")
