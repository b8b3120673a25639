"""Wide residual networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from accelerando.checks import check_integer
from accelerando.models.layers import check_norm, convolution, norm_layers


class WideResNet(nn.Sequential):
    """Wide residual network WRN-depth-width, without dropout.

    A 3 x 3 stem of 16 channels; three stages of (depth - 4) / 6 pre-activation blocks with 16, 32
    and 64 times ``width`` channels, the last two of stride 2; normalisation, ReLU, global average
    pooling and a linear layer (Zagoruyko and Komodakis, arXiv 1605.07146, Table 1). Maps (batch,
    channels, height, width) to (batch, classes).

    Args:
        shape: channels, height, width of an image; any height and width.
        classes: number of outputs.
        depth: number of convolutions including the three 1 x 1 shortcuts: 6k + 4 for k blocks per
            stage (10, 16, 22, 28, ...).
        width: factor of the number of channels, at least 1.
        norm: "none", "batch" or "group" (8 channels per group), before each ReLU.
        initialization: of the weights. "fan_out" as in the code for arXiv 2409.08770: convolutions
            Kaiming normal with the fan-out and a gain for ReLU, biases 0, and PyTorch's default
            for the linear layer's weights; "default" is PyTorch's for everything.

    Raises:
        ValueError: ``depth`` or ``width`` is out of range, or unknown ``norm`` or
            ``initialization``.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        depth: int,
        width: int,
        norm: str = "batch",
        initialization: str = "fan_out",
    ) -> None:
        check_norm(norm)
        if initialization not in ("fan_out", "default"):
            raise ValueError(f"initialization must be fan_out or default, got {initialization!r}")
        check_integer("width", width, 1)
        check_integer("depth", depth, 10)
        if depth % 6 != 4:
            raise ValueError(f"depth must be 6k + 4 (10, 16, 22, 28, ...), got {depth}")
        channels = 16
        stem = convolution(shape[0], channels, 3, 1, norm)
        stages = nn.Sequential()
        for out, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            stage = nn.Sequential(PreActivationBlock(channels, out, stride, norm))
            for _ in range((depth - 4) // 6 - 1):
                stage.append(PreActivationBlock(out, out, 1, norm))
            stages.append(stage)
            channels = out
        activation = nn.Sequential(*norm_layers(norm, channels), nn.ReLU())
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        linear = nn.Linear(channels, classes)
        super().__init__(
            OrderedDict(stem=stem, stages=stages, activation=activation, pool=pool, linear=linear)
        )
        if initialization == "fan_out":
            self.apply(_initialize)


class PreActivationBlock(nn.Module):
    """branch(a) + x with a = relu(norm(x)), or branch(a) + shortcut(a) if the shape changes.

    Maps (batch, channels, height, width) to (batch, out, ceil(height / stride),
    ceil(width / stride)); ``out`` must differ from ``channels`` if the stride is above 1.
    """

    def __init__(self, channels: int, out: int, stride: int, norm: str) -> None:
        super().__init__()
        self.activation = nn.Sequential(*norm_layers(norm, channels), nn.ReLU())
        self.branch = nn.Sequential(
            convolution(channels, out, 3, stride, norm),
            *norm_layers(norm, out),
            nn.ReLU(),
            convolution(out, out, 3, 1, norm),
        )
        self.shortcut = None if channels == out else convolution(channels, out, 1, stride, norm)

    def forward(self, images: Tensor) -> Tensor:
        active = self.activation(images)
        # as in the published code, the shortcut takes the activation but the identity the input;
        # without a norm an in-place ReLU would overwrite that input
        skipped = images if self.shortcut is None else self.shortcut(active)
        result: Tensor = self.branch(active) + skipped
        return result


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
