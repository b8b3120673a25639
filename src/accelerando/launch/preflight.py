"""Checks that need torch, before the first run of a sweep starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.schedule import Plan
from accelerando.training.batch_norm import check_batches
from accelerando.training.device import prepare_device
from accelerando.training.measurement import Measurement
from accelerando.training.precision import check_compiler, check_precision
from accelerando.training.task import make_data, seeded_model


def preflight(runs: Sequence[tuple[RunSettings, Plan]], *, devices: bool) -> str | None:
    """Build each model and load each data set once, and check that they fit the other settings.

    With ``devices``, initialise each device too. Return the first error as one line, or None.
    """
    passed: set[str] = set()
    for settings, plan in runs:
        model, data = f"{settings.model}", f"{settings.dataset}"
        schedule = f"{settings.scheduler} {settings.epochs} {settings.hardware}"
        # each check runs once for each combination of the settings that it depends on
        checks: dict[str, Callable[[RunSettings], object]] = {
            f"{model} {settings.dataset.shape} {settings.dataset.classes}": _build_model,
            f"{model} {data} {settings.measure}": partial(_check_measurement, plan=plan),
            f"{model} {data} {schedule}": partial(_check_batches, plan=plan),
        }
        if devices:
            checks[f"{settings.hardware} {settings.precision}"] = _check_device
        for key, check in checks.items():
            if key not in passed:
                try:
                    check(settings)
                except UsageError as error:
                    return str(error)
                passed.add(key)
    return None


def _build_model(settings: RunSettings) -> nn.Module:
    with torch.device("meta"):
        return seeded_model(settings)


def _check_measurement(settings: RunSettings, plan: Plan) -> None:
    data = make_data(settings, torch.device("cpu"))
    measurement = Measurement(settings.measure, plan, data, settings.seed)
    measurement.check_model(_build_model(settings), settings.dataset.shape)


def _check_batches(settings: RunSettings, plan: Plan) -> None:
    check_batches(plan, settings.hardware, _build_model(settings), settings.dataset.shape)


def _check_device(settings: RunSettings) -> None:
    device = prepare_device(settings.hardware.device, threads=1)
    check_precision(settings.precision.value, device)
    if settings.hardware.compile:
        check_compiler(device)
