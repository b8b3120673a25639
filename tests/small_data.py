"""Small data sets in the formats on disk of the real ones."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from accelerando.data.cifar import Cifar10, Cifar100
from accelerando.data.fashion_mnist import FashionMnist
from accelerando.data.files import FileSource
from accelerando.data.mnist import STEMS, Mnist
from accelerando.data.tiny_imagenet import TinyImageNet

GREY: Any = {"examples": 6, "shape": (1, 28, 28), "classes": 10, "mean": [0.25], "std": [0.5]}
COLOUR: Any = {"shape": (3, 32, 32), "mean": [0.1, 0.2, 0.4], "std": [0.5, 0.25, 0.125]}
SMALL: dict[type[FileSource], Any] = {
    Mnist: GREY,
    FashionMnist: GREY,
    Cifar10: {**COLOUR, "examples": 15, "classes": 10},
    Cifar100: {**COLOUR, "examples": 7, "classes": 100},
    TinyImageNet: {**COLOUR, "examples": 12, "classes": 3, "shape": (3, 16, 16)},
}
"""Settings that describe what ``WRITE`` writes."""

random = np.random.default_rng(0)


def bytes_like(*shape: int, below: int = 256) -> npt.NDArray[np.uint8]:
    return random.integers(0, below, shape, np.uint8)


def write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, suffix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in STEMS:
        n = 6 if stem.startswith("train") else 3
        array = bytes_like(n, 28, 28) if "images" in stem else bytes_like(n, below=10)
        write_idx(folder / f"{stem}{suffix}", array)


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, as those who published CIFAR did."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_string(self, value: bytes) -> None:
        short = len(value) < 256
        length = struct.pack("<B" if short else "<i", len(value))
        self.write((pickle.SHORT_BINSTRING if short else pickle.BINSTRING) + length + value)
        self.memoize(value)

    dispatch[bytes] = save_string


def pickled(content: Any, python: int = 2) -> bytes:
    """Protocol 2, as Python 2 or Python 3 writes it."""
    if python == 3:
        return pickle.dumps(content, protocol=2)
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue().replace(b"cnumpy._core", b"cnumpy.core")


def write_cifar10(folder: Path, python: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in Cifar10.FILES:
        content = {
            b"batch_label": b"one of five",
            b"labels": bytes_like(3, below=10).tolist(),
            b"data": bytes_like(3, 3072),
            b"filenames": [b"a.png", b"b.png", b"c.png"],
        }
        (folder / name).write_bytes(pickled(content, python))
    (folder / "batches.meta").write_bytes(pickled({b"label_names": list("abcdefghij")}))


def write_cifar100(folder: Path, python: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, n in (("train", 7), ("test", 4)):
        content = {
            b"fine_labels": bytes_like(n, below=100).tolist(),
            b"coarse_labels": [0] * n,
            b"data": np.asfortranarray(bytes_like(n, 3072)),
            b"filenames": [b"a.png"] * n,
        }
        (folder / name).write_bytes(pickled(content, python))
    (folder / "meta").write_bytes(pickled({b"fine_label_names": [str(i) for i in range(100)]}))


def write_tiny(folder: Path) -> None:
    wnids = ["n03", "n01", "n02"]
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(wnids))
    lines = []
    for wnid in wnids:
        (folder / "train" / wnid / "images").mkdir(parents=True)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
        for i in (0, 1, 2, 10):
            grey = i == 1
            image = Image.fromarray(bytes_like(16, 16) if grey else bytes_like(16, 16, 3))
            image.save(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
        image.save(folder / "val" / "images" / f"val_{len(lines)}.JPEG")
        lines.append(f"val_{len(lines)}.JPEG\t{wnid}\t0\t0\t15\t15")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")


WRITE: dict[type[FileSource], Callable[[Path], None]] = {
    Mnist: write_mnist,
    FashionMnist: write_mnist,
    Cifar10: write_cifar10,
    Cifar100: write_cifar100,
    TinyImageNet: write_tiny,
}
"""Writes one into a folder; other data at every call."""


def damaged(path: Path, content: bytes, source: FileSource, message: str) -> None:
    """Check that ``source`` names the file when it holds ``content``, and put it right again."""
    before = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        source.load()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    path.write_bytes(before)
