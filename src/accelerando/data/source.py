"""Data sets as arrays: the types that sources return, and checks against their settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class LabelledImages:
    """Training and test images with their labels; read-only, since processes may share them.

    Args:
        train_images: uint8, shape (n, channels, height, width); ``test_images`` likewise.
        train_labels: int64, shape (n,); ``test_labels`` likewise.
    """

    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Arrays(LabelledImages):
    """Labelled images and their normalisation.

    Args:
        mean: mean of each channel of the training images, in units of the stored pixels.
        std: standard deviation of each channel, in the same units.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Source(Protocol):
    """A data set as described by its YAML file."""

    @property
    def examples(self) -> int:
        """Number of training examples; a smaller number than available selects a subset."""

    @property
    def shape(self) -> Sequence[int]:
        """Channels, height and width of an image."""

    @property
    def classes(self) -> int:
        """Number of classes; labels run from 0 to ``classes`` - 1."""

    def prepare(self) -> None:
        """Make sure the files are available; download them if possible.

        Raises:
            FileNotFoundError: data not available; the message explains how to obtain them.
        """

    def load(self) -> Any:
        """Return ``Arrays``, or ``streaming.ImageFiles`` if the data do not fit in memory."""


def build_arrays(
    images: LabelledImages, source: Source, *, mean: Sequence[float], std: Sequence[float]
) -> Arrays:
    """Add the normalisation, check everything against the settings and select the examples.

    If ``source.examples`` is less than the number of training images, the same stratified subset
    is selected in every run.

    Args:
        images: the complete data set.
        source: its settings.
        mean: mean of each channel, in units of the stored pixels.
        std: standard deviation of each channel, likewise.

    Raises:
        ValueError: the data contradict the settings.
    """
    arrays = Arrays(**vars(images), mean=tuple(mean), std=tuple(std))
    _check_split("training", images.train_images, images.train_labels, source)
    _check_split("test", images.test_images, images.test_labels, source)
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != source.shape[0]:
            raise ValueError(
                f"{name} has {len(values)} values but the images have {source.shape[0]} channels"
            )
    if min(std) <= 0:
        raise ValueError(f"std must be above 0 in every channel, got {list(std)}")
    available, examples = len(images.train_images), source.examples
    if not 1 <= examples <= available:
        raise ValueError(
            f"the data set has {available} training images but the settings specify {examples=}: "
            "set it to that number, or to a smaller one to select a subset"
        )
    if examples == available:
        return arrays
    # independent of the run's seed: every seed minimises the same loss
    indices = np.sort(stratified_indices(images.train_labels, examples, np.random.default_rng(0)))
    return replace(
        arrays,
        train_images=images.train_images[indices],
        train_labels=images.train_labels[indices],
    )


def _check_split(
    name: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], source: Source
) -> None:
    shape, classes = list(source.shape), source.classes
    if list(images.shape[1:]) != shape:
        raise ValueError(
            f"the {name} images have the shape {list(images.shape[1:])} but the settings specify "
            f"{shape=}: make them agree"
        )
    if len(images) != len(labels):
        raise ValueError(f"the data set has {len(images)} {name} images but {len(labels)} labels")
    if len(labels) == 0:
        raise ValueError(f"the data set has no {name} images")
    for label in (labels.min(), labels.max()):
        if not 0 <= label < classes:
            raise ValueError(
                f"the data set has the label {label} but the settings specify {classes=}"
            )


def stratified_indices(
    labels: npt.NDArray[np.int64], size: int, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw the indices of ``size`` examples, with each class in proportion to within one example.

    The classes are interleaved, so that contiguous slices of the result are stratified as well.

    Args:
        labels: labels of all examples, shape (n,).
        size: number of examples to draw, from 1 to n.
        random: generator for the draws.
    """
    order = random.permutation(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * size / len(labels)
    quota = np.floor(exact).astype(int)
    # the largest remainders are rounded up
    quota[np.argsort(quota - exact, kind="stable")[: size - quota.sum()]] += 1
    drawn: list[npt.NDArray[np.int64]] = [
        order[labels[order] == label][:count] for label, count in zip(classes, quota, strict=True)
    ]
    positions = np.concatenate(
        [(np.arange(len(part)) + random.random()) / max(len(part), 1) for part in drawn]
    )
    return np.concatenate(drawn)[np.argsort(positions)]
