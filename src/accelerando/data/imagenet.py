"""ImageNet, streamed from the folders it is unpacked to (Russakovsky et al., arXiv 1409.0575)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from accelerando.data.storage import data_folder
from accelerando.data.stream import Files, Streams


@dataclass(frozen=True, kw_only=True)
class ImageNet:
    """1.28 million photographs in 1,000 classes, a folder for each class.

    Args:
        examples: training examples, stated for planning; ``load`` checks that they are all.
        shape: channels, height, width of what the model is given: the middle of the image, whose
            shorter side was made 8/7 of that.
        classes: number of labels.
        mean: per channel, in units of 0 to 1; ``std`` likewise.
        folder: holds train/<class>/*.JPEG and val/<class>/*.JPEG; left out: imagenet in the
            folder of downloads.
    """

    examples: int
    shape: Sequence[int]
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    folder: str | None = None

    @property
    def _folder(self) -> Path:
        return (
            Path(self.folder).expanduser()
            if self.folder is not None
            else data_folder() / "imagenet"
        )

    def prepare(self) -> None:
        """Find the two folders.

        Raises:
            FileNotFoundError: one is missing; ImageNet cannot be downloaded without an account.
        """
        missing = [name for name in ("train", "val") if not (self._folder / name).is_dir()]
        if missing:
            raise FileNotFoundError(
                f"{self._folder} lacks {' and '.join(missing)}: get ILSVRC 2012 from "
                "https://image-net.org/download (it asks for an account), unpack it to "
                "train/<class>/*.JPEG and val/<class>/*.JPEG, and set dataset.folder=DIR"
            )

    def load(self) -> Streams:
        from torchvision import transforms

        self.prepare()
        side = self.shape[1]
        view = [transforms.Resize(side * 8 // 7), transforms.CenterCrop(side)]
        train, test = (self._files(name) for name in ("train", "val"))
        if len(train.paths) != self.examples:
            raise ValueError(
                f"{self._folder} holds {len(train.paths)} training images, the dataset's settings "
                f"say examples={self.examples}: make them agree"
            )
        if odd := self._classes("train") ^ self._classes("val"):
            raise ValueError(
                f"{self._folder} has {', '.join(sorted(odd)[:3])} in only one of train and val: a "
                "label would not mean the same in both"
            )
        return Streams(
            train=train,
            test=test,
            mean=tuple(255 * value for value in self.mean),
            std=tuple(255 * value for value in self.std),
            shape=(self.shape[0], self.shape[1], self.shape[2]),
            view=transforms.Compose(view),
        )

    def _classes(self, name: str) -> set[str]:
        return {path.name for path in (self._folder / name).iterdir() if path.is_dir()}

    def _files(self, name: str) -> Files:
        from torchvision.datasets import ImageFolder

        found = ImageFolder(str(self._folder / name))
        if len(found.classes) != self.classes:
            raise ValueError(
                f"{self._folder / name} holds {len(found.classes)} classes, the dataset's settings "
                f"say classes={self.classes}"
            )
        paths = [path for path, _ in found.samples]
        return Files(paths=paths, labels=np.array(found.targets, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class ResizedCrop:
    """A random part of the image, made the size that the model takes, then perhaps mirrored.

    Args:
        size: height and width in pixels.
        scale: smallest and largest share of the image's area.
        flip: mirror left and right with probability one half.
    """

    size: int
    scale: Sequence[float] = (0.08, 1.0)
    flip: bool = True

    @cached_property
    def _transform(self) -> Any:
        from torchvision import transforms

        crop = transforms.RandomResizedCrop(self.size, scale=tuple(self.scale))
        return transforms.Compose([crop, transforms.RandomHorizontalFlip(0.5 * self.flip)])

    def __call__(self, image: Any) -> Any:
        """Augmented PIL image, by torch's global generator."""
        return self._transform(image)
