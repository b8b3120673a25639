"""Handwritten digits that ship with scikit-learn: 8 x 8 pixels with values from 0 to 16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from accelerando.data.cache import load_cached
from accelerando.data.source import Arrays, LabelledImages, build_arrays


@dataclass(frozen=True, kw_only=True)
class Digits:
    """1,797 real digits (UCI, Alpaydin and Kaynak); a stratified fifth of them is the test set.

    Args:
        examples: number of training examples; a smaller number than available selects a subset.
        shape: channels, height, width.
        classes: number of labels.
    """

    examples: int
    shape: Sequence[int]
    classes: int

    def prepare(self) -> None:
        """Do nothing: the files are installed with scikit-learn."""

    def load(self) -> Arrays:
        """Load the data set, from the cache if it was decoded before."""
        # cached because importing scikit-learn takes longer than everything else
        images = load_cached("digits", [f"scikit-learn {version('scikit-learn')}"], _decode)
        train = images.train_images
        return build_arrays(images, self, mean=[float(train.mean())], std=[float(train.std())])


def _decode() -> LabelledImages:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 1, 8, 8).astype(np.uint8)
    train, test, train_labels, test_labels = train_test_split(
        images, labels.astype(np.int64), test_size=0.2, stratify=labels, random_state=0
    )
    return LabelledImages(train, train_labels, test, test_labels)
