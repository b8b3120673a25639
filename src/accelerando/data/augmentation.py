"""Random crops, flips and rotations of complete batches on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from accelerando.checks import check_at_least, check_integer
from accelerando.randomness import Purpose, generator


class AugmentationTable(NamedTuple):
    """The random draws of one epoch; each column has shape (examples,)."""

    down: Tensor
    """Offset of the crop from the top of the padded image in pixels, int32."""
    right: Tensor
    """Offset of the crop from the left of the padded image in pixels, int32."""
    flip: Tensor
    """Whether to mirror horizontally, bool."""
    cosine: Tensor
    """Cosine of the angle of rotation (counter-clockwise), float32."""
    sine: Tensor
    """Sine of the angle, float32."""

    def take(self, part: Tensor | slice) -> AugmentationTable:
        """Return the rows of some examples."""
        return AugmentationTable(*(column[part] for column in self))


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Padded crop, horizontal flip and rotation, in this order, as in torchvision's transforms.

    Pixels from outside the image are black. The random draws of an epoch form a table with a row
    per example, so the result depends only on (seed, epoch, example) and not on the batch.

    Args:
        crop: pixels of padding on each side before a random crop of the original size.
        flip: mirror horizontally with probability 1/2.
        rotation: largest angle in degrees, in either direction; pixels are not interpolated.
    """

    crop: int = 0
    flip: bool = False
    rotation: float = 0.0

    def __post_init__(self) -> None:
        check_integer("crop", self.crop, 0)
        check_at_least("rotation", self.rotation, 0)

    def table(
        self, *, seed: int, epoch: int, examples: int, device: torch.device
    ) -> AugmentationTable:
        """Draw the random numbers of one epoch."""
        random = generator(seed, Purpose.AUGMENTATION, epoch)
        down, right = random.integers(0, 2 * self.crop + 1, (2, examples), dtype=np.int32)
        flip = random.random(examples) < 0.5
        angle = np.radians(random.uniform(-self.rotation, self.rotation, examples))
        # computed here for all examples at once, so that rounding cannot depend on the batch size
        columns = (down, right, flip, *(f(angle).astype(np.float32) for f in (np.cos, np.sin)))
        return AugmentationTable(*(torch.from_numpy(column).to(device) for column in columns))

    def __call__(self, images: Tensor, rows: AugmentationTable) -> Tensor:
        """Return augmented copies of ``images``, shape (m, channels, height, width), any dtype.

        Each pixel of the result is copied from the pixel that rotation, flip and crop map to it, so
        images are read only once.
        """
        height, width = images.shape[2:]
        y, x = (
            torch.arange(side, device=images.device, dtype=torch.int32) for side in (height, width)
        )
        y, x = y.view(1, -1, 1), x.view(1, 1, -1)
        inside = torch.ones((), dtype=torch.bool, device=images.device)
        if self.rotation:
            y, x = _rotate_back(y, x, rows)
            inside = _in_range(y, height) & _in_range(x, width)
        if self.flip:
            x = torch.where(rows.flip.view(-1, 1, 1), width - 1 - x, x)
        if self.crop:
            y = y + (rows.down.view(-1, 1, 1) - self.crop)
            x = x + (rows.right.view(-1, 1, 1) - self.crop)
            inside = inside & _in_range(y, height) & _in_range(x, width)
        indices = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
        indices = (
            indices.expand(len(images), height, width)
            .reshape(len(images), 1, height * width)
            .long()
        )
        flat = images.flatten(2)
        pixels = flat.gather(2, indices.expand(flat.shape)).view(images.shape)
        return pixels * inside.view(-1, 1, *inside.shape[1:])


def _rotate_back(y: Tensor, x: Tensor, rows: AugmentationTable) -> tuple[Tensor, Tensor]:
    """Return the source coordinates of the pixels (y, x) of rotated images, rounded."""
    center_y, center_x = (y.numel() - 1) / 2, (x.numel() - 1) / 2
    cosine, sine = rows.cosine.view(-1, 1, 1), rows.sine.view(-1, 1, 1)
    v, u = y - center_y, x - center_x
    source_y, source_x = v * cosine + u * sine, u * cosine - v * sine
    return (source_y + center_y).round().int(), (source_x + center_x).round().int()


def _in_range(coordinate: Tensor, size: int) -> Tensor:
    return (coordinate >= 0) & (coordinate < size)
