"""Try out what only torch can tell of a sweep's settings, before any of its runs starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from accelerando.build import build_plan
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.training.batch_norm import check_batches
from accelerando.training.device import prepare_device
from accelerando.training.measurement import Measurement
from accelerando.training.precision import check_compiler, check_precision
from accelerando.training.task import make_data, seeded_model


def preflight(sweep: Sequence[RunSettings], *, devices: bool) -> str | None:
    """Build every model, load every data set once, and see what is measured and trained on.

    Args:
        sweep: settings of the runs.
        devices: also touch every device once, where the runs are to use this machine's.

    Returns:
        What is wrong, in one line; None where nothing is.
    """
    seen: set[str] = set()
    for settings in sweep:
        model, data = f"{settings.model}", f"{settings.dataset}"
        shape = f"{settings.dataset.shape} {settings.dataset.classes}"
        for part, attempt in (
            (f"{model} {shape}", _build),
            (f"{model} {data} {settings.measure}", _measure),
            (
                f"{model} {data} {settings.scheduler} {settings.epochs} {settings.hardware}",
                _batches,
            ),
            (f"{settings.hardware} {settings.precision}", _device),
        ):
            if part not in seen and (devices or attempt is not _device):
                seen.add(part)
                try:
                    attempt(settings)
                except UsageError as error:
                    return str(error)
    return None


def _build(settings: RunSettings) -> nn.Module:
    with torch.device("meta"):
        return seeded_model(settings)


def _measure(settings: RunSettings) -> None:
    data = make_data(settings, torch.device("cpu"))
    measurement = Measurement(settings.measure, build_plan(settings), data, settings.seed)
    measurement.suits(_build(settings), settings.dataset.shape)


def _batches(settings: RunSettings) -> None:
    check_batches(build_plan(settings), settings.hardware, _build(settings), settings.dataset.shape)


def _device(settings: RunSettings) -> None:
    device = prepare_device(settings.hardware.device, threads=1)
    check_precision(settings.precision.value, device)
    if settings.hardware.compile:
        check_compiler(device)
