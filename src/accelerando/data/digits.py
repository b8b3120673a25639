"""Handwritten digits, 8 x 8 pixels of 0 to 16, that ship with scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from accelerando.data.cache import cached
from accelerando.data.source import Arrays, Decoded, describe_mismatch, normalised


@dataclass(frozen=True, kw_only=True)
class Digits:
    """1,797 real digits (UCI, Alpaydin and Kaynak), of which a stratified fifth is the test set.

    Args:
        examples: training examples; fewer than there are take a part of them.
        shape: channels, height, width.
        classes: number of labels.
    """

    examples: int
    shape: Sequence[int]
    classes: int

    def prepare(self) -> None:
        """They are on disk already."""

    def load(self) -> Arrays:
        # cached for the sake of scikit-learn's import, which takes longer than all the rest
        decoded = cached("digits", [f"scikit-learn {version('scikit-learn')}"], _decode)
        train = decoded.train_images
        arrays = normalised(decoded, mean=[float(train.mean())], std=[float(train.std())])
        return describe_mismatch(
            arrays, examples=self.examples, shape=self.shape, classes=self.classes
        )


def _decode() -> Decoded:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 1, 8, 8).astype(np.uint8)
    train, test, train_labels, test_labels = train_test_split(
        images, labels.astype(np.int64), test_size=0.2, stratify=labels, random_state=0
    )
    return Decoded(
        train_images=train,
        train_labels=train_labels,
        test_images=test,
        test_labels=test_labels,
    )
