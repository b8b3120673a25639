"""ImageNet (Russakovsky et al., arXiv 1409.0575), streamed from its folders of JPEG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from accelerando.data.file_source import FileSource
from accelerando.data.streaming import ImageFiles, LabelledFiles


@dataclass(frozen=True, kw_only=True)
class ImageNet(FileSource):
    """ImageNet (ILSVRC 2012): 1.28 million photographs in 1,000 classes, one folder per class.

    All examples are used. For evaluation, the shorter side of an image is resized to 8/7 of the
    height in ``shape``, then the centre is cropped.
    """

    NAME = "ImageNet"
    HOME = "imagenet"
    FILES = ("train", "val")
    HOW_TO_OBTAIN = (
        "download ILSVRC 2012 from https://image-net.org/download (requires an account), unpack "
        "it to train/<class>/*.JPEG and val/<class>/*.JPEG, and set dataset.folder=DIR"
    )

    def load(self) -> ImageFiles:  # type: ignore[override]  # not arrays
        """List the files and check them against the settings.

        Raises:
            FileNotFoundError: data not available.
            ValueError: the folders contradict the settings or each other.
        """
        from torchvision import transforms
        from torchvision.datasets import ImageFolder

        folder = self._find()
        train, val = (ImageFolder(str(folder / split)) for split in self.FILES)
        for split in (train, val):
            if len(split.classes) != self.classes:
                raise ValueError(
                    f"{split.root} has {len(split.classes)} classes but the settings specify "
                    f"classes={self.classes}"
                )
        if len(train) != self.examples:
            raise ValueError(
                f"{folder} has {len(train)} training images but the settings specify "
                f"examples={self.examples}: make them agree"
            )
        if unmatched := set(train.classes) ^ set(val.classes):
            raise ValueError(
                f"{folder} has {', '.join(sorted(unmatched)[:3])} in only one of train and "
                "val, so labels would not mean the same in both"
            )
        height = self.shape[1]
        resize = [transforms.Resize(height * 8 // 7), transforms.CenterCrop(height)]
        return ImageFiles(
            train=_labelled_files(train),
            test=_labelled_files(val),
            mean=tuple(255 * value for value in self.mean),
            std=tuple(255 * value for value in self.std),
            shape=(self.shape[0], self.shape[1], self.shape[2]),
            resize=transforms.Compose(resize),
        )


def _labelled_files(folder: Any) -> LabelledFiles:
    paths = [path for path, _ in folder.samples]
    return LabelledFiles(paths=paths, labels=np.array(folder.targets, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class ResizedCrop:
    """Crop a random part of the image, resize it to the model's input and perhaps mirror it.

    Args:
        size: height and width of the result in pixels.
        scale: smallest and largest area of the crop, as a fraction of the image's area.
        flip: mirror horizontally with probability 1/2.
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
        """Augment a PIL image, using torch's global random generator."""
        return self._transform(image)
