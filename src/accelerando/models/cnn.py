"""Small convolutional network, with and without BatchNorm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from accelerando.checks import whole


class Cnn(nn.Sequential):
    """3 x 3 convolutions, each with ReLU and 2 x 2 max-pooling, then one linear layer.

    Args:
        shape: channels, height, width of an image; each side at least 2 per convolution.
        classes: number of outputs.
        widths: channels of each convolution.
        norm: "none", "batch" or "group" (8 channels a group), before each ReLU.
    """

    def __init__(
        self, shape: Sequence[int], classes: int, widths: Sequence[int], norm: str = "none"
    ) -> None:
        if norm not in _NORMS:
            raise ValueError(f"norm must be one of {', '.join(_NORMS)}, got {norm!r}")
        channels, height, width = shape
        layers: list[nn.Module] = []
        for out in widths:
            whole("widths", out, 1)
            if min(height, width) < 2:
                raise ValueError(
                    f"widths has {len(widths)} convolutions, more than images of "
                    f"{shape[1]} x {shape[2]} pixels can be halved"
                )
            convolution = nn.Conv2d(channels, out, 3, padding=1, bias=norm == "none")
            parts = [convolution, _NORMS[norm](out), nn.ReLU(), nn.MaxPool2d(2)]
            layers += [part for part in parts if part is not None]
            channels, height, width = out, height // 2, width // 2
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))


_NORMS: dict[str, Callable[[int], nn.Module | None]] = {
    "none": lambda _: None,
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(max(1, channels // 8), channels),
}
