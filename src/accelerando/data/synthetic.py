"""Images made up at any size, for benchmarks and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accelerando.checks import whole
from accelerando.data.source import Arrays, Decoded, describe_mismatch, normalised

BLOCKS = 4
"""A class is known by the shades of so many blocks along each side of its images."""


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """A pattern for each class, under noise three times as strong: easily learned, not at once.

    Made anew at every load: nothing is cached.

    Args:
        examples: training examples, n.
        shape: channels, height, width.
        classes: number of labels.
        test_examples: examples of the test set.
        seed: other seeds are other patterns; apart from the seed of a run.

    Raises:
        ValueError: a value is out of range; the message says what is allowed.

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
            whole(name, getattr(self, name), 1)
        whole("seed", self.seed, 0)
        if len(self.shape) != 3:
            raise ValueError(f"shape is channels, height and width, got {list(self.shape)}")
        for length in self.shape:
            whole("shape", length, 1)

    def prepare(self) -> None:
        """There is nothing to fetch."""

    def load(self) -> Arrays:
        random = np.random.default_rng(self.seed)
        patterns = _patterns(random, self.classes, self.shape)
        train, train_labels = _labelled(random, patterns, self.examples)
        test, test_labels = _labelled(random, patterns, self.test_examples)
        decoded = Decoded(
            train_images=train,
            train_labels=train_labels,
            test_images=test,
            test_labels=test_labels,
        )
        some = train[:1000]  # as good an estimate as a benchmark needs
        arrays = normalised(
            decoded,
            mean=some.mean(axis=(0, 2, 3)).tolist(),
            std=some.std(axis=(0, 2, 3)).tolist(),
        )
        return describe_mismatch(
            arrays, examples=self.examples, shape=self.shape, classes=self.classes
        )


def _patterns(
    random: np.random.Generator, classes: int, shape: Sequence[int]
) -> npt.NDArray[np.uint8]:
    channels, height, width = shape
    blocks = random.integers(0, 64, (classes, channels, BLOCKS, BLOCKS), np.uint8)
    rows, columns = (np.arange(length) * BLOCKS // length for length in (height, width))
    return blocks[:, :, rows[:, None], columns]


def _labelled(
    random: np.random.Generator, patterns: npt.NDArray[np.uint8], n: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    labels = random.integers(0, len(patterns), n)
    images = random.integers(0, 256, (n, *patterns.shape[1:]), np.uint8)
    for begin in range(0, n, 1000):  # in parts, so that no second copy of all images is held
        part = images[begin : begin + 1000]
        part -= part >> 2  # 192 at most; a narrower draw takes ten times as long
        part += patterns[labels[begin : begin + 1000]]
    return images, labels
