"""Try out what only torch can tell of a sweep's settings, before any of its runs starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from omegaconf import DictConfig

from accelerando.checks import UsageError
from accelerando.config import load
from accelerando.training.device import prepare_device
from accelerando.training.task import seeded_model


def try_out(configs: Sequence[DictConfig]) -> str | None:
    """Build every model, load every data set and touch every device once.

    Returns:
        What is wrong, in one line; None where nothing is.
    """
    seen: set[str] = set()
    for config in configs:
        for part, attempt in (
            (f"{config.model} {config.dataset.shape} {config.dataset.classes}", _build),
            (f"{config.dataset}", load),
            (f"{config.hardware.device}", _device),
        ):
            if part not in seen:
                seen.add(part)
                try:
                    attempt(config)
                except UsageError as error:
                    return str(error)
    return None


def _build(config: DictConfig) -> None:
    with torch.device("meta"):
        seeded_model(config)


def _device(config: DictConfig) -> None:
    prepare_device(config.hardware.device, threads=1)
