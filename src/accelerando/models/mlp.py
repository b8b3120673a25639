"""Fully connected network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from accelerando.checks import whole


class Mlp(nn.Sequential):
    """Linear layers with ReLU between them.

    Args:
        shape: channels, height, width of an image.
        classes: number of outputs.
        widths: units of each hidden layer.
    """

    def __init__(self, shape: Sequence[int], classes: int, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = math.prod(shape)
        for width in widths:
            whole("widths", width, 1)
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        super().__init__(*layers, nn.Linear(inputs, classes))
