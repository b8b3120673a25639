"""Tiny ImageNet from its folders of JPEG files (Stanford CS231n)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from accelerando.data.files import FileSource
from accelerando.data.source import Decoded

CHUNK = 1000
"""Images that a process decodes at a time."""


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(FileSource):
    """110,000 photographs, 3 x 64 x 64, in 200 classes; its validation images are the test set.

    The label of an image is the position of its WordNet id among those of ``wnids.txt`` in
    alphabetical order (not in the file's), as ``torchvision.datasets.ImageFolder`` counts.
    Training images are in the order of their ids, then of their names; test images in the order of
    ``val_annotations.txt``. Grey images have three equal channels. The published test images have
    no labels and are not used.
    """

    NAME = "Tiny ImageNet"
    URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    MD5: ClassVar[str] = "90528d7ca1a48142e341f4ef8d21d0de"
    HOME = "tiny-imagenet-200"
    FILES = ("wnids.txt", "train", "val/val_annotations.txt", "val/images")

    def _files(self, folder: Path) -> Iterable[Path]:
        yield folder / "wnids.txt"
        yield folder / "val" / "val_annotations.txt"
        for wnid in _wnids(folder):
            yield from _images(folder / "train" / wnid / "images")
        yield from _images(folder / "val" / "images")

    def _key(self, folder: Path) -> Iterable[str]:
        import PIL

        yield f"pillow {PIL.__version__}"  # JPEG libraries differ in the last bit
        yield from super()._key(folder)

    def _decode(self, folder: Path) -> Decoded:
        numbers = {wnid: number for number, wnid in enumerate(_wnids(folder))}
        train = {
            path: number
            for wnid, number in numbers.items()
            for path in _images(folder / "train" / wnid / "images")
        }
        test = _annotated(folder, numbers)
        print(f"{self.NAME}: decoding {len(train) + len(test):,} images, once", file=sys.stderr)
        return Decoded(
            train_images=_decoded(list(train)),
            train_labels=np.array(list(train.values()), np.int64),
            test_images=_decoded(list(test)),
            test_labels=np.array(list(test.values()), np.int64),
        )

    def _fetch(self, folder: Path) -> Path:
        from torchvision.datasets.utils import download_and_extract_archive

        download_and_extract_archive(self.URL, str(folder), md5=self.MD5)
        return folder / self.HOME


def _wnids(folder: Path) -> list[str]:
    return sorted((folder / "wnids.txt").read_text().split())


def _images(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir(), key=lambda path: path.name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder} is missing: unpack Tiny ImageNet again") from error
    return [path for path in paths if path.suffix.lower() in (".jpeg", ".jpg")]


def _annotated(folder: Path, numbers: dict[str, int]) -> dict[Path, int]:
    """Label of each validation image: a line has its name, its WordNet id and a box."""
    annotations = folder / "val" / "val_annotations.txt"
    labels = {}
    for line in annotations.read_text().splitlines():
        name, wnid, *_ = *line.split("\t"), ""
        if wnid not in numbers:
            raise ValueError(f"{annotations} has the line {line!r}, wnids.txt no {wnid!r}")
        labels[folder / "val" / "images" / name] = numbers[wnid]
    return labels


def _decoded(paths: Sequence[Path]) -> npt.NDArray[np.uint8]:
    """Pixels, shape (n, 3, height, width), of images that have the size of the first."""
    from joblib import Parallel, cpu_count, delayed

    if not paths:
        return np.empty((0, 3, 0, 0), np.uint8)
    shape = _pixels(paths[0]).shape
    images = np.empty((len(paths), *shape), np.uint8)
    begins = range(0, len(paths), CHUNK)
    # processes: Pillow spends most of a small image's time holding the interpreter's lock
    parallel = Parallel(n_jobs=min(cpu_count(), len(begins)), return_as="generator")
    chunks = parallel(delayed(_chunk)(paths[begin : begin + CHUNK], shape) for begin in begins)
    for begin, chunk in zip(begins, chunks, strict=True):
        images[begin : begin + CHUNK] = chunk
    return images


def _chunk(paths: Sequence[Path], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    images = np.empty((len(paths), *shape), np.uint8)
    for image, path in zip(images, paths, strict=True):
        pixels = _pixels(path)
        if pixels.shape != shape:
            raise ValueError(f"{path} has the shape {pixels.shape}, others {shape}")
        image[:] = pixels
    return images


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except OSError as error:
        raise ValueError(f"{path} is missing or damaged ({error}): fetch it again") from error
