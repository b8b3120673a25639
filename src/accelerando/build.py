"""Convert what Hydra composed to typed settings, and build the objects that they describe."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from accelerando.checks import UsageError, check_integer
from accelerando.config import (
    DatasetSettings,
    GroupSettings,
    RunConfig,
    RunSettings,
    Yardstick,
)
from accelerando.data.source import Source
from accelerando.schedule import Plan, Scheduler
from accelerando.scheduler_names import without_display

GROUPS = ("model", "dataset", "scheduler")
"""Groups whose settings depend on the choice."""


def settings_from_hydra(config: DictConfig) -> RunSettings:
    """Convert what Hydra composed into typed settings.

    Raises:
        UsageError: a setting does not exist, a single value was given for a group, or both
            ``epochs`` and ``steps`` are set.
        OmegaConfBaseException: a value is missing or cannot be resolved.
    """
    _check_names(config, RunConfig)
    if config.steps is not None:
        if not OmegaConf.is_interpolation(config, "epochs"):
            raise UsageError(
                f"steps={config.steps} and epochs={config.epochs} both set the length of the run: "
                "set only one of them"
            )
        config = copy.deepcopy(config)
        config.epochs = config.epochs  # a search, which should not be repeated at every access
    tree = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(tree, dict)
    plain = {str(key): value for key, value in tree.items() if key != "hydra"}
    for group in GROUPS:
        if not isinstance(plain[group], dict):
            raise UsageError(
                f"{group} is a group of settings, got {plain[group]!r}: "
                f"choose one with {group}=NAME"
            )
    published = _yardsticks(plain["measure"]["published"])
    plain["measure"]["published"] = published
    typed: dict[str, Any] = {
        part.name: OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        for part in fields(RunConfig)
        if part.name not in GROUPS
        for value in [config[part.name]]
    }
    typed["measure"] = replace(typed["measure"], published=published)
    dataset = config.dataset
    return RunSettings(
        model=GroupSettings(str(config.model.name), _without(plain["model"], "name")),
        dataset=DatasetSettings(
            name=str(dataset.name),
            target=_without(plain["dataset"], "name", "epochs", "augmentation"),
            examples=dataset.examples,
            shape=tuple(dataset.shape),
            classes=dataset.classes,
            augmentation=plain["dataset"].get("augmentation"),
        ),
        scheduler=GroupSettings(str(config.scheduler.name), _without(plain["scheduler"], "name")),
        tree=plain,
        **typed,
    )


def _yardsticks(value: Any) -> list[str]:
    """Return the names in ``measure.published``, which was once true or false."""
    names = [Yardstick.paper.value] if value is True else [] if value is False else value
    allowed = [yardstick.value for yardstick in Yardstick]
    if not isinstance(names, Sequence) or not set(names) <= set(allowed):
        raise UsageError(f"measure.published must be a list of {', '.join(allowed)}, got {value}")
    return [name for name in allowed if name in names]


def _without(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in names}


def _check_names(config: DictConfig, schema: Any, prefix: str = "") -> None:
    """Raise UsageError if ``+name=value`` added a setting that does not exist."""
    known = {part.name: part for part in fields(schema)}
    for name in map(str, config):
        if name not in known and name != "hydra":
            raise UsageError(
                f"there is no setting {prefix}{name}: choose from {', '.join(sorted(known))}"
            )
        if name in known and is_dataclass(known[name].default_factory):
            _check_names(config[name], known[name].default_factory, f"{prefix}{name}.")


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
    try:  # these values are not settings of the scheduler
        check_integer("epochs", epochs, 1)
        check_integer("dataset.examples", examples, 1)
    except ValueError as error:
        raise UsageError(str(error)) from error
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
