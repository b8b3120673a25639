"""Generated images of any number and size, for benchmarks and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accelerando.checks import check_integer
from accelerando.data.source import Arrays, LabelledImages, build_arrays

BLOCKS = 4
"""Blocks of constant shade along each side of a class pattern."""
CHUNK = 1000
"""Images to add the pattern to at once, which bounds the memory for temporary copies."""


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """One pattern per class under noise three times as strong: easy to learn, but not immediately.

    Generated on every load; nothing is cached.

    Args:
        examples: number of training examples.
        shape: channels, height, width.
        classes: number of labels.
        test_examples: number of test examples.
        seed: seed of the patterns and images; independent of the run's seed.

    Raises:
        ValueError: a value is out of range; the message states what is allowed.

    >>> data = Synthetic(examples=6, shape=(3, 8, 8), classes=2, test_examples=4, seed=0).load()
    >>> data.train_images.shape, data.test_labels.shape
    ((6, 3, 8, 8), (4,))
    """

    examples: int
    shape: Sequence[int]
    classes: int
    test_examples: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("examples", "classes", "test_examples"):
            check_integer(name, getattr(self, name), 1)
        check_integer("seed", self.seed, 0)
        if len(self.shape) != 3:
            raise ValueError(f"shape must be channels, height and width, got {list(self.shape)}")
        for length in self.shape:
            check_integer("shape", length, 1)

    def prepare(self) -> None:
        """Do nothing: there are no files."""

    def load(self) -> Arrays:
        """Generate the data set."""
        random = np.random.default_rng(self.seed)
        patterns = _patterns(random, self.classes, self.shape)
        images = LabelledImages(
            *_examples(random, patterns, self.examples),
            *_examples(random, patterns, self.test_examples),
        )
        sample = images.train_images[:1000]  # estimates the statistics well enough for a benchmark
        mean, std = sample.mean(axis=(0, 2, 3)).tolist(), sample.std(axis=(0, 2, 3)).tolist()
        return build_arrays(images, self, mean=mean, std=std)


def _patterns(
    random: np.random.Generator, classes: int, shape: Sequence[int]
) -> npt.NDArray[np.uint8]:
    channels, height, width = shape
    blocks = random.integers(0, 64, (classes, channels, BLOCKS, BLOCKS), np.uint8)
    rows, columns = (np.arange(length) * BLOCKS // length for length in (height, width))
    return blocks[:, :, rows[:, None], columns]


def _examples(
    random: np.random.Generator, patterns: npt.NDArray[np.uint8], n: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    labels = random.integers(0, len(patterns), n)
    images = random.integers(0, 256, (n, *patterns.shape[1:]), np.uint8)
    for begin in range(0, n, CHUNK):
        chunk = images[begin : begin + CHUNK]
        chunk -= chunk >> 2  # at most 192; drawing from a narrower range takes ten times as long
        chunk += patterns[labels[begin : begin + CHUNK]]
    return images, labels
