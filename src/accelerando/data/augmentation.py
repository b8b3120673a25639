"""Random crops, flips and rotations of whole batches, on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from accelerando.checks import at_least, whole
from accelerando.randomness import Purpose, generator


class Table(NamedTuple):
    """What happens to each example in one epoch; every column has shape (examples,)."""

    down: Tensor
    """Pixels from the top of the padded image to that of the crop, int32; ``right`` likewise."""
    right: Tensor
    flip: Tensor
    """Whether it is mirrored, bool."""
    cosine: Tensor
    """Of the angle it is turned by, counter-clockwise, float32; ``sine`` likewise."""
    sine: Tensor

    def take(self, indices: Tensor) -> Table:
        """The rows of some examples."""
        return Table(*(column[indices] for column in self))


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Crop with padding, then flip, then rotation, as torchvision's transforms of these names.

    What comes from outside the image is black. Everything random is drawn as one table for an
    epoch and looked up by example: the result depends on (seed, epoch, example) alone, not on the
    batch that the example is in.

    Args:
        crop: pixels of padding on each side before a crop of the image's own size.
        flip: mirror left and right with probability one half.
        rotation: largest angle, in degrees, to either side; the nearest pixel is taken.
    """

    crop: int = 0
    flip: bool = False
    rotation: float = 0.0

    def __post_init__(self) -> None:
        whole("crop", self.crop, 0)
        at_least("rotation", self.rotation, 0)

    def table(self, *, seed: int, epoch: int, examples: int, device: torch.device) -> Table:
        """The draws of one epoch."""
        random = generator(seed, Purpose.AUGMENTATION, epoch)
        down, right = random.integers(0, 2 * self.crop + 1, (2, examples), dtype=np.int32)
        flip = random.random(examples) < 0.5
        angle = np.radians(random.uniform(-self.rotation, self.rotation, examples))
        # turned into cosines here, once for all batches, so that no batch's size can matter
        columns = (down, right, flip, *(f(angle).astype(np.float32) for f in (np.cos, np.sin)))
        return Table(*(torch.from_numpy(column).to(device) for column in columns))

    def __call__(self, images: Tensor, rows: Table) -> Tensor:
        """Augmented copies of ``images``, shape (m, channels, height, width), any type.

        Each pixel of the result is one pixel of the image, or black: they are looked up once, by
        the places that rotation, flip and crop lead back to.
        """
        height, width = images.shape[2:]
        y, x = (
            torch.arange(side, device=images.device, dtype=torch.int32) for side in (height, width)
        )
        y, x = y.view(1, -1, 1), x.view(1, 1, -1)
        inside = torch.ones((), dtype=torch.bool, device=images.device)
        if self.rotation:
            y, x = _turned_back(y, x, rows)
            inside = _within(y, height) & _within(x, width)
        if self.flip:
            x = torch.where(rows.flip.view(-1, 1, 1), width - 1 - x, x)
        if self.crop:
            y = y + (rows.down.view(-1, 1, 1) - self.crop)
            x = x + (rows.right.view(-1, 1, 1) - self.crop)
            inside = inside & _within(y, height) & _within(x, width)
        places = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
        places = (
            places.expand(len(images), height, width).reshape(len(images), 1, height * width).long()
        )
        flat = images.flatten(2)
        pixels = flat.gather(2, places.expand(flat.shape)).view(images.shape)
        return pixels * inside.view(-1, 1, *inside.shape[1:])


def _turned_back(y: Tensor, x: Tensor, rows: Table) -> tuple[Tensor, Tensor]:
    """Where the pixels (y, x) of turned images were before, to the nearest pixel."""
    middle_y, middle_x = (y.numel() - 1) / 2, (x.numel() - 1) / 2
    cosine, sine = rows.cosine.view(-1, 1, 1), rows.sine.view(-1, 1, 1)
    v, u = y - middle_y, x - middle_x
    before_y, before_x = v * cosine + u * sine, u * cosine - v * sine
    return (before_y + middle_y).round().int(), (before_x + middle_x).round().int()


def _within(place: Tensor, side: int) -> Tensor:
    return (place >= 0) & (place < side)
