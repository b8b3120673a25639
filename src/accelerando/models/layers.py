"""Convolutions and normalisation layers that the models share."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

NORMS = ("none", "batch", "group")


def check_norm(norm: str, allowed: Collection[str] = NORMS) -> None:
    """Raise ValueError unless ``norm`` is one of ``allowed``."""
    if norm not in allowed:
        raise ValueError(f"norm must be one of {', '.join(allowed)}, got {norm!r}")


def norm_layers(norm: str, channels: int) -> list[nn.Module]:
    """Return a list with the layer that normalises (batch, channels, height, width), if any.

    Args:
        norm: "none", "batch" (BatchNorm, Ioffe and Szegedy, arXiv 1502.03167) or "group"
            (GroupNorm, Wu and He, arXiv 1803.08494, with 8 channels per group).
        channels: channels of the feature map.

    Raises:
        ValueError: unknown norm.
    """
    check_norm(norm)
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "group":
        return [nn.GroupNorm(max(1, channels // 8), channels)]
    return []


def convolution(channels: int, out: int, size: int, stride: int, norm: str) -> nn.Conv2d:
    """Return a padded convolution; it has a bias unless ``norm`` follows, which has its own."""
    return nn.Conv2d(channels, out, size, stride, padding=size // 2, bias=norm == "none")
