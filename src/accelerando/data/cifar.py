"""CIFAR-10 and CIFAR-100 from their original pickles (Krizhevsky, 2009)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from accelerando.data.files import FileSource
from accelerando.data.pickles import PickledArray, read_pickle
from accelerando.data.source import Decoded

SIDE = 32
"""Height and width in pixels; a row of a file is the red plane, the green and the blue."""


@dataclass(frozen=True, kw_only=True)
class _Cifar(FileSource):
    MD5: ClassVar[str]
    LABELS: ClassVar[bytes]

    def _decode(self, folder: Path) -> Decoded:
        *train, test = (_read(folder / name, self.LABELS) for name in self.FILES)
        return Decoded(
            train_images=np.concatenate([images for images, _ in train]),
            train_labels=np.concatenate([labels for _, labels in train]),
            test_images=test[0],
            test_labels=test[1],
        )

    def _fetch(self, folder: Path) -> Path:
        from torchvision.datasets.utils import download_and_extract_archive

        download_and_extract_archive(self.URL, str(folder), md5=self.MD5)
        return folder / self.HOME


@dataclass(frozen=True, kw_only=True)
class Cifar10(_Cifar):
    """60,000 photographs, 3 x 32 x 32, in 10 classes."""

    NAME = "CIFAR-10"
    URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    MD5 = "c58f30108f718f92721af3b95e74349a"
    HOME = "cifar-10-batches-py"
    FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
    LABELS = b"labels"


@dataclass(frozen=True, kw_only=True)
class Cifar100(_Cifar):
    """60,000 photographs, 3 x 32 x 32, in 100 classes (the fine labels)."""

    NAME = "CIFAR-100"
    URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
    HOME = "cifar-100-python"
    FILES = ("train", "test")
    LABELS = b"fine_labels"


def _read(path: Path, labels: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    content = read_pickle(path)
    rows, numbers = content.get(b"data"), content.get(labels)
    if not isinstance(rows, PickledArray) or not isinstance(numbers, list):
        raise ValueError(f"{path} lacks data or {labels.decode()}: it is another data set's file")
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"{path} holds {labels.decode()} that are not numbers: fetch it again")
    if rows.values.shape != (len(numbers), 3 * SIDE * SIDE):
        raise ValueError(
            f"{path} holds data of shape {rows.values.shape} and {len(numbers)} labels, not "
            f"{3 * SIDE * SIDE} bytes for each: fetch it again"
        )
    return rows.values.reshape(-1, 3, SIDE, SIDE), np.array(numbers, np.int64)
