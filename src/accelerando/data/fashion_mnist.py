"""Fashion-MNIST from its IDX files (Xiao, Rasul and Vollgraf, arXiv 1708.07747)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accelerando.data.idx import read_idx
from accelerando.data.source import Arrays, described

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True, kw_only=True)
class FashionMnist:
    """70,000 images of clothes, 28 x 28, in 10 classes.

    Args:
        examples: training examples, stated for planning; ``load`` checks it.
        shape: channels, height, width.
        classes: number of labels.
        folder: where the four IDX files are (``.gz`` or not). Left out: the Debian package
            dataset-fashion-mnist, else the download folder, else a download.
    """

    examples: int
    shape: Sequence[int]
    classes: int
    folder: str | None = None

    def prepare(self) -> None:
        """Find the files, or download them.

        Raises:
            FileNotFoundError: the folder lacks a file, or nothing could be found or downloaded.
        """
        if self.folder is not None:
            missing = [stem for stem in STEMS if _find(Path(self.folder), stem) is None]
            if missing:
                raise FileNotFoundError(
                    f"dataset.folder={self.folder} lacks {', '.join(missing)} (with or without "
                    f".gz). {_WAYS}"
                )
        elif self._found() is None:
            self._download()

    def load(self) -> Arrays:
        self.prepare()
        folder = Path(self.folder) if self.folder is not None else self._found()
        assert folder is not None
        train, train_labels, test, test_labels = (
            read_idx(path) for stem in STEMS if (path := _find(folder, stem))
        )
        arrays = Arrays(
            train_images=train[:, None],
            train_labels=train_labels.astype(np.int64),
            test_images=test[:, None],
            test_labels=test_labels.astype(np.int64),
            mean=(0.2860 * 255,),
            std=(0.3530 * 255,),
        )
        return described(arrays, examples=self.examples, shape=self.shape, classes=self.classes)

    def _found(self) -> Path | None:
        for folder in (DEBIAN, _downloads() / "FashionMNIST" / "raw"):
            if all(_find(folder, stem) for stem in STEMS):
                return folder
        return None

    def _download(self) -> None:
        from torchvision.datasets import FashionMNIST

        try:
            FashionMNIST(str(_downloads()), download=True)
        except Exception as error:  # torchvision raises RuntimeError, urllib its own
            raise FileNotFoundError(
                f"Fashion-MNIST was not found, nor downloaded. {_WAYS}"
            ) from error


_WAYS = (
    "Three ways to have it: set dataset.folder=DIR to a folder with the four IDX files; on Debian "
    "or Ubuntu, `apt install dataset-fashion-mnist`; or run once where the network allows, "
    "torchvision then downloads it."
)


def _downloads() -> Path:
    """Where downloads go: $ACCELERANDO_DATA, else the user's cache folder."""
    default = Path.home() / ".cache" / "accelerando"
    return Path(os.environ.get("ACCELERANDO_DATA", default))


def _find(folder: Path, stem: str) -> Path | None:
    paths = (folder / f"{stem}.gz", folder / stem)
    return next((path for path in paths if path.is_file()), None)
