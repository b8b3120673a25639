"""Write small random data sets in the file formats of the real ones."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from accelerando.data.cifar import Cifar10, Cifar100
from accelerando.data.fashion_mnist import FashionMnist
from accelerando.data.file_source import FileSource
from accelerando.data.mnist import Mnist
from accelerando.data.source import LabelledImages
from accelerando.data.tiny_imagenet import TinyImageNet

GREY: Any = {"examples": 6, "shape": (1, 28, 28), "classes": 10, "mean": [0.25], "std": [0.5]}
COLOUR: Any = {"shape": (3, 32, 32), "mean": [0.1, 0.2, 0.4], "std": [0.5, 0.25, 0.125]}
SETTINGS: dict[type[FileSource], Any] = {
    Mnist: GREY,
    FashionMnist: GREY,
    Cifar10: {**COLOUR, "examples": 15, "classes": 10},
    Cifar100: {**COLOUR, "examples": 7, "classes": 100},
    TinyImageNet: {**COLOUR, "examples": 12, "classes": 3, "shape": (3, 16, 16)},
}
"""Settings of the data sets that ``WRITERS`` write."""

each_source = pytest.mark.parametrize("source", SETTINGS, ids=lambda source: source.__name__)

random = np.random.default_rng(0)


def random_bytes(*shape: int, below: int = 256) -> npt.NDArray[np.uint8]:
    return random.integers(0, below, shape, np.uint8)


def write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, suffix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in Mnist.FILES:
        n = 6 if name.startswith("train") else 3
        array = random_bytes(n, 28, 28) if "images" in name else random_bytes(n, below=10)
        write_idx(folder / f"{name}{suffix}", array)


class Python2Pickler(pickle._Pickler):
    """Pickles bytes as Python 2 pickled strings; the published CIFAR files were made that way."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_string(self, value: bytes) -> None:
        short = len(value) < 256
        length = struct.pack("<B" if short else "<i", len(value))
        self.write((pickle.SHORT_BINSTRING if short else pickle.BINSTRING) + length + value)
        self.memoize(value)

    dispatch[bytes] = save_string


def pickle_bytes(content: Any, python: int = 2) -> bytes:
    """Pickle in protocol 2, as Python 2 or Python 3 does."""
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
            b"labels": random_bytes(3, below=10).tolist(),
            b"data": random_bytes(3, 3072),
            b"filenames": [b"a.png", b"b.png", b"c.png"],
        }
        (folder / name).write_bytes(pickle_bytes(content, python))
    (folder / "batches.meta").write_bytes(pickle_bytes({b"label_names": list("abcdefghij")}))


def write_cifar100(folder: Path, python: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, n in (("train", 7), ("test", 4)):
        content = {
            b"fine_labels": random_bytes(n, below=100).tolist(),
            b"coarse_labels": [0] * n,
            b"data": np.asfortranarray(random_bytes(n, 3072)),
            b"filenames": [b"a.png"] * n,
        }
        (folder / name).write_bytes(pickle_bytes(content, python))
    names = [str(i) for i in range(100)]
    (folder / "meta").write_bytes(pickle_bytes({b"fine_label_names": names}))


def write_tiny_imagenet(folder: Path) -> None:
    wnids = ["n03", "n01", "n02"]
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(wnids))
    lines = []
    for wnid in wnids:
        (folder / "train" / wnid / "images").mkdir(parents=True)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
        for i in (0, 1, 2, 10):
            grey = i == 1
            image = Image.fromarray(random_bytes(16, 16) if grey else random_bytes(16, 16, 3))
            image.save(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
        image.save(folder / "val" / "images" / f"val_{len(lines)}.JPEG")
        lines.append(f"val_{len(lines)}.JPEG\t{wnid}\t0\t0\t15\t15")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")


WRITERS: dict[type[FileSource], Callable[[Path], None]] = {
    Mnist: write_mnist,
    FashionMnist: write_mnist,
    Cifar10: write_cifar10,
    Cifar100: write_cifar100,
    TinyImageNet: write_tiny_imagenet,
}
"""Write a data set into a folder, with different data on every call."""


def read_with_torchvision(dataset: Any) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Return images, shape (n, channels, height, width), and labels of a torchvision dataset."""
    pairs = [(np.asarray(image), label) for image, label in dataset]
    images = np.stack([image for image, _ in pairs])
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return images, [label for _, label in pairs]


def check_corrupt(path: Path, content: bytes, source: FileSource, message: str) -> None:
    """Check that loading reports ``path`` if it holds ``content``, then restore the file."""
    before = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        source.load()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    path.write_bytes(before)


def random_images(seed: int = 0) -> LabelledImages:
    random = np.random.default_rng(seed)
    return LabelledImages(
        train_images=random.integers(0, 256, (500, 3, 4, 4), np.uint8),
        train_labels=random.integers(0, 10, 500),
        test_images=random.integers(0, 256, (20, 3, 4, 4), np.uint8),
        test_labels=random.integers(0, 10, 20),
    )


def equal(left: LabelledImages, right: LabelledImages) -> bool:
    return all(
        getattr(left, field.name).dtype == getattr(right, field.name).dtype
        and np.array_equal(getattr(left, field.name), getattr(right, field.name))
        for field in fields(LabelledImages)
    )


def must_not_decode() -> LabelledImages:
    raise AssertionError("decoded again")


def cache_entries(data_folder: Path) -> list[Path]:
    """Return the entries of the cache."""
    return sorted(path for path in (data_folder / "decoded").glob("[!.]*"))


def temporary_folders(data_folder: Path) -> list[Path]:
    return list((data_folder / "decoded").glob(".accelerando-*"))


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)
