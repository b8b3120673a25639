"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), from their pickles without executing code in them."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from accelerando.data.file_source import FileSource
from accelerando.data.source import LabelledImages

SIDE = 32
"""Height and width in pixels. Each row of a file holds the red, green and blue planes."""


@dataclass(frozen=True, kw_only=True)
class _Cifar(FileSource):
    LABELS: ClassVar[bytes]

    def _decode(self, folder: Path) -> LabelledImages:
        *train, test = (_read(folder / name, self.LABELS) for name in self.FILES)
        images, labels = map(np.concatenate, zip(*train, strict=True))
        return LabelledImages(images, labels, *test)


@dataclass(frozen=True, kw_only=True)
class Cifar10(_Cifar):
    """CIFAR-10: 60,000 photographs, 3 x 32 x 32, in 10 classes."""

    NAME = "CIFAR-10"
    URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    MD5 = "c58f30108f718f92721af3b95e74349a"
    HOME = "cifar-10-batches-py"
    FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
    LABELS = b"labels"


@dataclass(frozen=True, kw_only=True)
class Cifar100(_Cifar):
    """CIFAR-100: 60,000 photographs, 3 x 32 x 32, in 100 classes (the fine labels)."""

    NAME = "CIFAR-100"
    URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
    HOME = "cifar-100-python"
    FILES = ("train", "test")
    LABELS = b"fine_labels"


def _read(path: Path, key: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read the images, uint8 of shape (n, 3, 32, 32), and the labels stored under ``key``."""
    content = _read_pickle(path)
    data, labels = content.get(b"data"), content.get(key)
    if not isinstance(data, _PickledArray) or not isinstance(labels, list):
        raise ValueError(f"{path} lacks data or {key.decode()}: it belongs to another data set")
    if not all(isinstance(label, int) for label in labels):
        raise ValueError(f"{path} has {key.decode()} that are not numbers: download it again")
    if data.values.shape != (len(labels), 3 * SIDE * SIDE):
        raise ValueError(
            f"{path} has data of shape {data.values.shape} and {len(labels)} labels, expected "
            f"{3 * SIDE * SIDE} bytes per label: download it again"
        )
    return data.values.reshape(-1, 3, SIDE, SIDE), np.array(labels, np.int64)


def _read_pickle(path: Path) -> dict[Any, Any]:
    """Unpickle a dictionary of plain values and ``_PickledArray``, without executing anything."""
    file = io.BytesIO(path.read_bytes())
    try:
        content = _Unpickler(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError("not a dictionary")
    except Exception as error:  # unpickling a corrupt file can raise almost anything
        raise ValueError(
            f"{path} is not a pickle of labelled images ({error}): download it again"
        ) from error
    return content


class _PickledArray:
    """Replaces ``numpy.ndarray`` during unpickling; ``values`` is the array's content.

    NumPy's own classes are not safe: a pickle can make ``numpy.ndarray`` interpret bytes as
    pointers to objects.
    """

    def __init__(self, *arguments: Any) -> None:
        self.values: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _PickledDtype, bool, bytes]) -> None:
        _, shape, dtype, fortran_order, content = state
        if not isinstance(dtype, _PickledDtype) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("array of a type other than bytes")
        values = np.frombuffer(content, np.uint8)
        self.values = values.reshape(shape, order="F" if fortran_order else "C")


class _PickledDtype:
    """Replaces ``numpy.dtype`` during unpickling; allows only unsigned bytes."""

    def __init__(self, name: str | bytes, *arguments: Any) -> None:
        if name not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"array of type {name!r}")

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledDtype,
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
        # how Python 3 pickles bytes in protocol 2
        ("_codecs", "encode"): lambda text, _: text.encode("latin-1"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"refused to load {module}.{name}")
        return self.ALLOWED[module, name]
