"""Small convolutional network, with and without BatchNorm."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from accelerando.checks import whole
from accelerando.models.norm import check_norm, norm_layers


class Cnn(nn.Sequential):
    """3 x 3 convolutions of stride 2, each with ReLU, then one linear layer.

    Args:
        shape: channels, height, width of an image; each side at least 2 per convolution.
        classes: number of outputs.
        widths: channels of each convolution.
        norm: "none", "batch" or "group" (8 channels a group), before each ReLU.
    """

    def __init__(
        self, shape: Sequence[int], classes: int, widths: Sequence[int], norm: str = "none"
    ) -> None:
        check_norm(norm)
        channels, height, width = shape
        layers: list[nn.Module] = []
        for out in widths:
            whole("widths", out, 1)
            if min(height, width) < 2:
                raise ValueError(
                    f"widths has {len(widths)} convolutions, more than images of "
                    f"{shape[1]} x {shape[2]} pixels can be halved"
                )
            bias = norm == "none"  # else the normalisation brings its own
            convolution = nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=bias)
            layers += [convolution, *norm_layers(norm, out), nn.ReLU()]
            channels, height, width = out, (height + 1) // 2, (width + 1) // 2
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))
