"""Try out what only torch can tell of a sweep's settings, before any of its runs starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from omegaconf import DictConfig
from torch import nn

from accelerando.checks import UsageError
from accelerando.config import build_plan
from accelerando.training.batch_norm import check_batches
from accelerando.training.device import prepare_device
from accelerando.training.measurement import Measurement
from accelerando.training.precision import check_compiler, check_precision
from accelerando.training.task import make_data, seeded_model


def preflight(configs: Sequence[DictConfig], *, devices: bool) -> str | None:
    """Build every model, load every data set once, and see what is measured and trained on.

    Args:
        configs: of the runs.
        devices: also touch every device once, where the runs are to use this machine's.

    Returns:
        What is wrong, in one line; None where nothing is.
    """
    seen: set[str] = set()
    for config in configs:
        model, data = f"{config.model}", f"{config.dataset}"
        shape = f"{config.dataset.shape} {config.dataset.classes}"
        for part, attempt in (
            (f"{model} {shape}", _build),
            (f"{model} {data} {config.measure}", _measure),
            (f"{model} {data} {config.scheduler} {config.epochs} {config.hardware}", _batches),
            (f"{config.hardware} {config.precision}", _device),
        ):
            if part not in seen and (devices or attempt is not _device):
                seen.add(part)
                try:
                    attempt(config)
                except UsageError as error:
                    return str(error)
    return None


def _build(config: DictConfig) -> nn.Module:
    with torch.device("meta"):
        return seeded_model(config)


def _measure(config: DictConfig) -> None:
    data = make_data(config, torch.device("cpu"))
    measurement = Measurement(config.measure, build_plan(config), data, config.seed)
    measurement.suits(_build(config), config.dataset.shape)


def _batches(config: DictConfig) -> None:
    check_batches(build_plan(config), config.hardware, _build(config), config.dataset.shape)


def _device(config: DictConfig) -> None:
    device = prepare_device(config.hardware.device, threads=1)
    check_precision(config.precision.value, device)
    if config.hardware.compile:
        check_compiler(device)
