"""Residual networks for ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from accelerando.models.layers import check_norm, norm_layers

DEPTHS = (18, 34, 50)


def imagenet_resnet(
    shape: Sequence[int], classes: int, depth: int = 34, norm: str = "batch"
) -> nn.Module:
    """Build torchvision's ResNet, with a 7 x 7 stem and max-pooling.

    The stem and the max-pooling both have stride 2 (He et al., arXiv 1512.03385, Table 1). Weights
    are random, initialised by torchvision. Maps (batch, channels, height, width) to
    (batch, classes).

    Args:
        shape: channels, height, width of an image; any height and width.
        classes: number of outputs.
        depth: 18, 34 or 50.
        norm: "batch" or "group" (8 channels per group), after each convolution.

    Raises:
        ValueError: unknown ``depth`` or ``norm``.
    """
    check_norm(norm, ("batch", "group"))
    if depth not in DEPTHS:
        raise ValueError(f"depth must be one of {', '.join(map(str, DEPTHS))}, got {depth!r}")
    import torchvision  # imported here because it takes seconds

    model: nn.Module = getattr(torchvision.models, f"resnet{depth}")(
        weights=None,
        num_classes=classes,
        norm_layer=lambda channels: norm_layers(norm, channels)[0],
    )
    if shape[0] != 3:  # torchvision's stem always has three input channels
        model.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return model
