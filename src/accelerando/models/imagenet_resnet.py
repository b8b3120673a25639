"""Residual networks for ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from accelerando.models.norm import check_norm, norm_layers

DEPTHS = (18, 34, 50)


def imagenet_resnet(
    shape: Sequence[int], classes: int, depth: int = 34, norm: str = "batch"
) -> nn.Module:
    """Residual network in the form used for ImageNet, from torchvision.

    A 7 x 7 stem of stride 2 and a 3 x 3 max-pooling of stride 2 before the four stages (He et al.,
    arXiv 1512.03385, Table 1). Weights are random, initialised as torchvision does. Maps
    (batch, channels, height, width) to (batch, classes).

    Args:
        shape: channels, height, width of an image; any height and width will do.
        classes: number of outputs.
        depth: 18, 34 or 50.
        norm: "batch" or "group" (8 channels a group), after each convolution.

    Raises:
        ValueError: there is no such ``depth`` or ``norm``.
    """
    check_norm(norm, ("batch", "group"))
    if depth not in DEPTHS:
        raise ValueError(f"depth must be one of {', '.join(map(str, DEPTHS))}, got {depth!r}")
    import torchvision  # here alone: it takes seconds that other models need not wait for

    def one_layer(channels: int) -> nn.Module:
        (layer,) = norm_layers(norm, channels)
        return layer

    make = getattr(torchvision.models, f"resnet{depth}")
    model: nn.Module = make(weights=None, num_classes=classes, norm_layer=one_layer)
    if shape[0] != 3:  # torchvision makes a stem for three channels, whatever the images have
        model.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return model
