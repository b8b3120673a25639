"""Residual networks for small images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from accelerando.checks import check_integer
from accelerando.models.layers import check_norm, convolution, norm_layers

WIDTHS = (64, 128, 256, 512)
"""Channels of the 3 x 3 convolutions in each stage."""


class ResNet(nn.Sequential):
    """Residual network for small images such as CIFAR, with a 3 x 3 stem and no max-pooling.

    Four stages of 64, 128, 256 and 512 channels, each but the first of stride 2, then global
    average pooling and a linear layer (He et al., arXiv 1512.03385, Table 1, except the stem). If a
    block changes the shape, its shortcut is a 1 x 1 convolution (option B). As in torchvision, the
    stride of a bottleneck is in its 3 x 3 convolution. Weights have PyTorch's default
    initialisation. Maps (batch, channels, height, width) to (batch, classes).

    Args:
        shape: channels, height, width of an image; any height and width.
        classes: number of outputs.
        blocks: number of blocks in each of the four stages: [2, 2, 2, 2] for ResNet-18,
            [3, 4, 6, 3] for ResNet-34 and, with ``bottleneck``, for ResNet-50.
        bottleneck: use blocks of 1 x 1, 3 x 3 and 1 x 1 convolutions, the last with four times the
            channels, instead of two 3 x 3 convolutions.
        norm: "none", "batch" or "group" (8 channels per group), after each convolution.

    Raises:
        ValueError: ``blocks`` does not hold four positive integers, or unknown ``norm``.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        blocks: Sequence[int],
        bottleneck: bool = False,
        norm: str = "batch",
    ) -> None:
        check_norm(norm)
        if len(blocks) != len(WIDTHS):
            raise ValueError(f"blocks must be {len(WIDTHS)} numbers, one per stage, got {blocks!r}")
        channels = WIDTHS[0]
        stem = nn.Sequential(*_convolution(shape[0], channels, 3, 1, norm), nn.ReLU())
        stages = nn.Sequential()
        for width, count in zip(WIDTHS, blocks, strict=True):
            check_integer("blocks", count, 1)
            stage = nn.Sequential()
            for index in range(count):
                stride = 2 if index == 0 and width != WIDTHS[0] else 1
                block = ResidualBlock(channels, width, stride, bottleneck, norm)
                stage.append(block)
                channels = block.channels
            stages.append(stage)
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        linear = nn.Linear(channels, classes)
        super().__init__(OrderedDict(stem=stem, stages=stages, pool=pool, linear=linear))


class ResidualBlock(nn.Module):
    """relu(branch(x) + shortcut(x)).

    Maps (batch, channels, height, width) to (batch, self.channels, ceil(height / stride),
    ceil(width / stride)). The 3 x 3 convolutions have ``width`` channels, and the first of them has
    the stride; a bottleneck consists of convolutions of 1 x 1, 3 x 3 and 1 x 1.
    """

    def __init__(self, channels: int, width: int, stride: int, bottleneck: bool, norm: str) -> None:
        super().__init__()
        self.channels = 4 * width if bottleneck else width
        if bottleneck:
            branch = [
                *_convolution(channels, width, 1, 1, norm),
                nn.ReLU(),
                *_convolution(width, width, 3, stride, norm),
                nn.ReLU(),
                *_convolution(width, self.channels, 1, 1, norm),
            ]
        else:
            branch = [
                *_convolution(channels, width, 3, stride, norm),
                nn.ReLU(),
                *_convolution(width, width, 3, 1, norm),
            ]
        shortcut: list[nn.Module] = []
        if stride != 1 or channels != self.channels:
            shortcut = _convolution(channels, self.channels, 1, stride, norm)
        self.branch = nn.Sequential(*branch)
        self.shortcut = nn.Sequential(*shortcut)  # without layers: the identity
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.relu(self.branch(images) + self.shortcut(images))
        return result


def _convolution(channels: int, out: int, size: int, stride: int, norm: str) -> list[nn.Module]:
    """Return a convolution and its normalisation."""
    return [convolution(channels, out, size, stride, norm), *norm_layers(norm, out)]
