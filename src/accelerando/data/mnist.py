"""MNIST from its IDX files (LeCun, Bottou, Bengio and Haffner, Proc. IEEE 86, 1998)."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from accelerando.data.file_source import FileSource
from accelerando.data.source import LabelledImages

MAGIC = bytes([0, 0, 8])
"""Start of an IDX file; the third byte is the type of the values, 8 for unsigned bytes."""


@dataclass(frozen=True, kw_only=True)
class Mnist(FileSource):
    """MNIST: 70,000 handwritten digits, 28 x 28, in four IDX files, gzipped or not."""

    NAME = "MNIST"
    URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    HOME = "MNIST/raw"
    FILES = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    TORCHVISION: ClassVar[str] = "MNIST"
    """Class of ``torchvision.datasets`` that downloads the files."""

    def _path(self, folder: Path, name: str) -> Path | None:
        paths = (folder / f"{name}.gz", folder / name)
        return next((path for path in paths if path.is_file()), None)

    def _decode(self, folder: Path) -> LabelledImages:
        train, train_labels, test, test_labels = map(read_idx, self._files(folder))
        return LabelledImages(
            train[:, None],
            train_labels.astype(np.int64),
            test[:, None],
            test_labels.astype(np.int64),
        )

    def _fetch(self, folder: Path) -> Path:
        from torchvision import datasets

        getattr(datasets, self.TORCHVISION)(str(folder), download=True)
        return folder / self.HOME


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an array of unsigned bytes from an IDX file, gzipped or not.

    The header consists of 0, 0, the type, the number of dimensions, and each length as a big-endian
    32-bit integer (Yann LeCun's description of MNIST).

    Raises:
        ValueError: the file is corrupt, truncated, or holds values of another type.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is corrupt ({error}): download it again") from error
    if len(content) < 4 or content[:3] != MAGIC or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: download it again")
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape):
        raise ValueError(
            f"{path} has {values.size} values but its header specifies {np.prod(shape)}: download "
            "it again"
        )
    return values.reshape(shape)
