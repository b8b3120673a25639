"""A small convolutional network, with or without normalisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from accelerando.checks import check_integer
from accelerando.models.layers import check_norm, convolution, norm_layers


class Cnn(nn.Sequential):
    """3 x 3 convolutions of stride 2, each followed by ReLU, then a linear layer.

    Args:
        shape: channels, height, width of an image; each convolution halves height and width.
        classes: number of outputs.
        widths: channels of each convolution.
        norm: "none", "batch" or "group" (8 channels per group), before each ReLU.

    Raises:
        ValueError: a value is not allowed, or the images are too small for the convolutions.
    """

    def __init__(
        self, shape: Sequence[int], classes: int, widths: Sequence[int], norm: str = "none"
    ) -> None:
        check_norm(norm)
        channels, height, width = shape
        layers: list[nn.Module] = []
        for out in widths:
            check_integer("widths", out, 1)
            if min(height, width) < 2:
                raise ValueError(
                    f"widths has {len(widths)} convolutions, too many for images of "
                    f"{shape[1]} x {shape[2]} pixels: each one halves height and width"
                )
            layers += [convolution(channels, out, 3, 2, norm), *norm_layers(norm, out), nn.ReLU()]
            channels, height, width = out, (height + 1) // 2, (width + 1) // 2
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))
