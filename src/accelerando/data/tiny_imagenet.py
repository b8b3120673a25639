"""Tiny ImageNet from its folders of JPEG files (Stanford CS231n)."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from accelerando.data.file_source import FileSource
from accelerando.data.source import LabelledImages

CHUNK = 1000
"""Images that a process decodes at once."""


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(FileSource):
    """Tiny ImageNet: 110,000 photographs, 3 x 64 x 64, in 200 classes.

    The published test images have no labels, so the validation images serve as test set. Labels
    number the WordNet ids of ``wnids.txt`` in alphabetical order (not in the order of the file), as
    ``torchvision.datasets.ImageFolder`` does. Training images are sorted by id and file name, test
    images are in the order of ``val_annotations.txt``. Greyscale images are converted to RGB.
    """

    NAME = "Tiny ImageNet"
    URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
    HOME = "tiny-imagenet-200"
    FILES = ("wnids.txt", "train", "val/val_annotations.txt", "val/images")

    def _files(self, folder: Path) -> Iterable[Path]:
        yield folder / "wnids.txt"
        yield folder / "val" / "val_annotations.txt"
        for wnid in _wnids(folder):
            yield from _images(folder / "train" / wnid / "images")
        yield from _images(folder / "val" / "images")

    def _cache_key(self, folder: Path) -> Iterable[str]:
        import PIL

        yield f"pillow {PIL.__version__}"  # JPEG decoders differ in the last bit
        yield from super()._cache_key(folder)

    def _decode(self, folder: Path) -> LabelledImages:
        labels = {wnid: label for label, wnid in enumerate(_wnids(folder))}
        train = {
            path: label
            for wnid, label in labels.items()
            for path in _images(folder / "train" / wnid / "images")
        }
        test = _test_labels(folder, labels)
        print(
            f"{self.NAME}: decoding {len(train) + len(test):,} images into the cache",
            file=sys.stderr,
        )
        return LabelledImages(*_decode_images(train), *_decode_images(test))


def _wnids(folder: Path) -> list[str]:
    return sorted((folder / "wnids.txt").read_text().split())


def _images(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir(), key=lambda path: path.name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder} is missing: unpack Tiny ImageNet again") from error
    return [path for path in paths if path.suffix.lower() in (".jpeg", ".jpg")]


def _test_labels(folder: Path, labels: dict[str, int]) -> dict[Path, int]:
    """Return the label of each test image; a line holds file name, WordNet id and bounding box."""
    annotations = folder / "val" / "val_annotations.txt"
    test = {}
    for line in annotations.read_text().splitlines():
        name, wnid, *_ = *line.split("\t"), ""
        if wnid not in labels:
            raise ValueError(f"{annotations}: {wnid!r} in line {line!r} is not in wnids.txt")
        test[folder / "val" / "images" / name] = labels[wnid]
    return test


def _decode_images(
    labels: dict[Path, int],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Decode images of equal size in parallel; return them with their labels."""
    from joblib import Parallel, cpu_count, delayed

    paths = list(labels)
    shape = _decode_image(paths[0]).shape if paths else (3, 0, 0)
    images = np.empty((len(paths), *shape), np.uint8)
    # processes, not threads: for small images Pillow mostly holds the interpreter lock
    jobs = max(1, min(cpu_count(), math.ceil(len(paths) / CHUNK)))
    parallel = Parallel(n_jobs=jobs, batch_size=CHUNK, return_as="generator")
    decoded = parallel(delayed(_decode_image)(path) for path in paths)
    for image, pixels, path in zip(images, decoded, paths, strict=True):
        if pixels.shape != image.shape:
            raise ValueError(f"{path} has the shape {pixels.shape}, other images {image.shape}")
        image[:] = pixels
    return images, np.array(list(labels.values()), np.int64)


def _decode_image(path: Path) -> npt.NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except OSError as error:
        raise ValueError(f"{path} is missing or corrupt ({error}): download it again") from error
