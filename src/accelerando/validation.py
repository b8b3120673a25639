"""Check the settings of a run before anything is trained."""

from __future__ import annotations

from accelerando.build import build_plan, build_source
from accelerando.checks import UsageError, check_at_least, check_integer, check_positive
from accelerando.config import HardwareSettings, MeasureSettings, RunSettings
from accelerando.schedule import Plan


def validate(settings: RunSettings) -> Plan:
    """Check everything that can be checked without torch; return the plan.

    Files of the data set are located, and downloaded if they are missing.

    Raises:
        UsageError: a setting is out of range, or the data are not available.
    """
    check_settings(settings)
    plan = build_plan(settings)
    try:
        build_source(settings).prepare()
    except FileNotFoundError as error:
        raise UsageError(str(error)) from error
    return plan


def check_settings(settings: RunSettings) -> None:
    """Check every value that can be checked by itself.

    Raises:
        UsageError: a value is out of range; the message says what is allowed.
    """
    tracking, checkpoint, optimizer = settings.tracking, settings.checkpoint, settings.optimizer
    try:
        check_integer("epochs", settings.epochs, 1)
        check_integer("seed", settings.seed, 0)
        check_integer("measure.chunk", settings.measure.chunk, 1)
        _check_cadence(settings.measure, settings.epochs)
        check_integer("tracking.every", tracking.every, 1)
        for threshold in tracking.thresholds:
            check_positive("tracking.thresholds", threshold)
        _check_hardware(settings.hardware)
        check_at_least("checkpoint.seconds", checkpoint.seconds, 0)
        check_integer("checkpoint.epochs", checkpoint.epochs, 1, optional=True)
        check_at_least("optimizer.momentum", optimizer.momentum, 0)
        check_at_least("optimizer.weight_decay", optimizer.weight_decay, 0)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if settings.measure.augmented is not None and settings.dataset.augmentation is None:
        raise UsageError(
            "measure.augmented needs a data set with augmentation, got dataset.augmentation=null"
        )
    if optimizer.nesterov and optimizer.momentum == 0:
        raise UsageError("optimizer.nesterov needs optimizer.momentum above 0, got 0")


def _check_hardware(hardware: HardwareSettings) -> None:
    check_integer("hardware.threads", hardware.threads, 1)
    check_integer("hardware.processes", hardware.processes, 1)
    check_integer("hardware.workers", hardware.workers, 0)
    check_integer("hardware.micro_batch", hardware.micro_batch, 1, optional=True)
    for other in ("micro_batch", "compile"):
        if hardware.sync_batch_norm and getattr(hardware, other):
            raise ValueError(
                f"hardware.sync_batch_norm and hardware.{other} cannot be combined: set one of them"
            )


def _check_cadence(measure: MeasureSettings, epochs: int) -> None:
    names = ("every_epochs", "epochs", "every_steps")
    given = [name for name in names if getattr(measure, name) is not None]
    if len(given) > 1:
        raise ValueError(
            f"set only one of measure.{', measure.'.join(names)}, got {', '.join(given)}"
        )
    for name in ("every_epochs", "every_steps", "subset"):
        check_integer(f"measure.{name}", getattr(measure, name), 1, optional=True)
    check_integer("measure.augmented", measure.augmented, 2, optional=True)
    for name in ("epochs", "sharpness_epochs"):
        outside = [epoch for epoch in getattr(measure, name) or () if not 0 <= epoch <= epochs]
        if outside:
            raise ValueError(
                f"measure.{name} must be between 0 and {epochs}, the length of the run, "
                f"got {', '.join(map(str, outside))}"
            )
    others = [
        name for name in ("variance", "per_layer", "check", "dtype") if getattr(measure, name)
    ]
    if measure.subset is not None and others:
        raise ValueError(
            "measure.subset estimates the norm alone, in float32: it cannot be combined with "
            + ", ".join(f"measure.{name}" for name in others)
        )
