"""Build the objects that settings describe: plan, data source and others by ``_target_``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.data.source import Source
from accelerando.schedule import Plan, Scheduler
from accelerando.scheduler_names import without_display


def build(name: str, target: Mapping[str, Any], **arguments: Any) -> Any:
    """Instantiate ``target``.

    Args:
        name: name of the setting for error messages, such as ``scheduler``.
        target: ``_target_`` and the arguments of its constructor.
        arguments: further arguments of the constructor.

    Raises:
        UsageError: there is no ``_target_``, or the constructor rejects a value.
    """
    if "_target_" not in target:
        raise UsageError(
            f"{name} has no _target_, which names the class to build: add one, as the files in "
            "conf/ do"
        )
    try:
        return instantiate(dict(target), **arguments, _convert_="all")
    except HydraException as error:
        cause = error.__cause__ or error
        where = ".".join(filter(None, [name, _full_key(error)]))
        if isinstance(cause, (ValueError, TypeError)):
            raise UsageError(f"{where}: {cause}") from error
        raise UsageError(f"{where}: {error}") from error


def _full_key(error: Exception) -> str:
    """Return the nested setting that Hydra names in the last line of its message."""
    lines = [line for line in str(error).splitlines() if line.startswith("full_key: ")]
    return lines[-1].removeprefix("full_key: ") if lines else ""


def build_source(settings: RunSettings) -> Source:
    """Return the data source of a run; nothing is loaded yet."""
    return build("dataset", settings.dataset.target)  # type: ignore[no-any-return]


def build_augmentation(settings: RunSettings) -> Any:
    """Return the augmentation of training images, or None."""
    target = settings.dataset.augmentation
    return None if target is None else build("dataset.augmentation", target)


def load_data(settings: RunSettings) -> Any:
    """Load the data of a run: into memory, or as a list of files to stream.

    Raises:
        UsageError: the data are not available, corrupt, or do not match the settings.
    """
    try:
        return build_source(settings).load()
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"dataset: {error}") from error


def build_scheduler(settings: RunSettings) -> Scheduler:
    """Return the scheduler of a run, not yet bound to its length and data."""
    return _scheduler(settings.scheduler.target)


def build_plan(settings: RunSettings) -> Plan:
    """Return the plan of a run: its scheduler bound to its length and data.

    Raises:
        UsageError: the scheduler cannot be built, or does not fit the run.
    """
    return bind(
        settings.scheduler.target, examples=settings.dataset.examples, epochs=settings.epochs
    )


def bind(target: Mapping[str, Any], *, examples: int, epochs: int) -> Plan:
    """Build a scheduler and bind it to a run of ``epochs`` over ``examples``.

    Raises:
        UsageError: the scheduler cannot be built, or does not fit the run.
    """
    scheduler = _scheduler(target)
    try:
        return scheduler.bind(examples=examples, epochs=epochs)
    except ValueError as error:
        raise UsageError(f"scheduler.{error}") from error


def _scheduler(target: Mapping[str, Any]) -> Scheduler:
    for shape in ("batch_size", "learning_rate"):
        value = target.get(shape)
        if not isinstance(value, dict):
            raise UsageError(
                f"scheduler.{shape} is a shape, got {value!r}: choose one with "
                f"scheduler/{shape}=NAME, set its values with scheduler.{shape}.initial=VALUE"
            )
    return build("scheduler", without_display(target))  # type: ignore[no-any-return]
