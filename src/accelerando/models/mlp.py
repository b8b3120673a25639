"""A fully connected network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from accelerando.checks import check_integer


class Mlp(nn.Sequential):
    """Linear layers with ReLU in between.

    Args:
        shape: channels, height, width of an image.
        classes: number of outputs.
        widths: number of units in each hidden layer.

    Raises:
        ValueError: a width is not a positive integer.
    """

    def __init__(self, shape: Sequence[int], classes: int, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = math.prod(shape)
        for width in widths:
            check_integer("widths", width, 1)
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        super().__init__(*layers, nn.Linear(inputs, classes))
