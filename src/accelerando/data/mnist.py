"""MNIST from its IDX files (LeCun, Bottou, Bengio and Haffner, Proc. IEEE 86, 1998)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from accelerando.data.files import FileSource
from accelerando.data.idx import read_idx
from accelerando.data.source import Decoded

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True, kw_only=True)
class Mnist(FileSource):
    """70,000 handwritten digits, 28 x 28, in four IDX files, each gzipped or not.

    Fashion-MNIST has the same files.
    """

    NAME = "MNIST"
    URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    HOME = "MNIST/raw"
    FILES = STEMS
    TORCHVISION: ClassVar[str] = "MNIST"

    def _path(self, folder: Path, name: str) -> Path | None:
        paths = (folder / f"{name}.gz", folder / name)
        return next((path for path in paths if path.is_file()), None)

    def _decode(self, folder: Path) -> Decoded:
        train, train_labels, test, test_labels = map(read_idx, self._files(folder))
        return Decoded(
            train_images=train[:, None],
            train_labels=train_labels.astype(np.int64),
            test_images=test[:, None],
            test_labels=test_labels.astype(np.int64),
        )

    def _fetch(self, folder: Path) -> Path:
        from torchvision import datasets

        getattr(datasets, self.TORCHVISION)(str(folder), download=True)
        return folder / self.HOME
