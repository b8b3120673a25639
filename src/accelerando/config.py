"""The settings of a run: their types, their check, and the identity they give the run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from accelerando.checks import UsageError, at_least, positive, whole
from accelerando.schedule.stages import DEFAULT_LENGTHS

if TYPE_CHECKING:  # built by their _target_, so that nothing is imported that a run does not use
    from accelerando.data.source import Arrays, Source
    from accelerando.data.stream import Streams
    from accelerando.schedule import Plan, Scheduler


class TrackingMode(Enum):
    """Where W&B rows go; auto is online where the user is logged in, else offline."""

    auto = "auto"
    offline = "offline"
    online = "online"
    disabled = "disabled"


class BatchNormMode(Enum):
    """Statistics that BatchNorm uses in the full-gradient measurement."""

    batch = "batch"
    running = "running"


class MeasureDtype(Enum):
    """Floating point of the full-gradient measurement."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"


class Precision(Enum):
    """Floating point of the products in a training step."""

    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"


@dataclass
class OptimizerSettings:
    """Mini-batch SGD; plain by default, as in the paper."""

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0


@dataclass
class HardwareSettings:
    """Where a run is computed."""

    device: str = "cpu"
    threads: int = 1
    processes: int = 1
    workers: int = 4
    micro_batch: int | None = None
    channels_last: bool = False
    compile: bool = False
    sync_batch_norm: bool = False


@dataclass
class MeasureSettings:
    """How the full gradient is measured."""

    chunk: int = 512
    batch_norm: BatchNormMode = BatchNormMode.batch
    dtype: MeasureDtype | None = None
    every_epochs: int | None = None
    epochs: list[int] | None = None
    every_steps: int | None = None
    per_layer: bool = False
    variance: bool = False
    published: bool = False
    subset: int | None = None
    sharpness_epochs: list[int] = field(default_factory=list)
    check: bool = False


@dataclass
class TrackingSettings:
    """W&B, and how often a training row is made; thresholds are of the full gradient norm."""

    mode: TrackingMode = TrackingMode.auto
    project: str = "accelerando"
    entity: str | None = None
    every: int = 50
    thresholds: list[float] = field(default_factory=lambda: [1.0, 0.1, 0.01])
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    artifacts: bool = False


@dataclass
class CheckpointSettings:
    """How often a run can be continued from."""

    seconds: float = 60.0
    epochs: int | None = None


@dataclass
class RunConfig:
    """Everything a run is made of; ``conf/config.yaml`` says what each setting does."""

    model: Any = MISSING
    dataset: Any = MISSING
    scheduler: Any = MISSING
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    hardware: HardwareSettings = field(default_factory=HardwareSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    precision: Precision = Precision.fp32
    epochs: int = MISSING
    seed: int = MISSING
    root: str = MISSING


def register() -> None:
    """Tell Hydra the schema, and OmegaConf the lengths that follow the paper's proportions."""
    ConfigStore.instance().store(name="schema", node=RunConfig)
    for name, length in DEFAULT_LENGTHS.items():
        OmegaConf.register_new_resolver(name, length, replace=True)


def build(settings: DictConfig, leave_out: tuple[str, ...] = (), **more: Any) -> Any:
    """The object that ``settings`` describe by their ``_target_``.

    Raises:
        UsageError: it has none, or its constructor refuses a value; the message names the setting.
    """
    where = str(settings._get_full_key(None))
    if "_target_" not in settings:
        raise UsageError(
            f"{where} has no _target_, which says what to build: give one, as files in conf/ do"
        )
    resolved = OmegaConf.to_container(settings, resolve=True)
    assert isinstance(resolved, dict)
    kept = {str(key): value for key, value in resolved.items() if key not in leave_out}
    try:
        return instantiate(kept, **more, _convert_="all")
    except HydraException as error:
        cause = error.__cause__ or error
        where = ".".join(filter(None, [where, _full_key(error)]))
        if isinstance(cause, (ValueError, TypeError)):
            raise UsageError(f"{where}: {cause}") from error
        raise UsageError(f"{where}: {error}") from error


def _full_key(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.startswith("full_key: ")]
    return lines[-1].removeprefix("full_key: ") if lines else ""


def build_source(config: DictConfig) -> Source:
    """The data set that a run is trained on."""
    return build(config.dataset, leave_out=_NOT_THE_SOURCE)  # type: ignore[no-any-return]


_NOT_THE_SOURCE = ("name", "epochs", "augmentation")


def build_augmentation(config: DictConfig) -> Any:
    """What happens to training images, None for nothing."""
    settings = config.dataset.get("augmentation")
    return None if settings is None else build(settings)


def load_data(config: DictConfig) -> Arrays | Streams:
    """The run's data: in memory, or where its files are.

    Raises:
        UsageError: they are not to be had, damaged, or not what the settings say.
    """
    try:
        return build_source(config).load()  # type: ignore[no-any-return]
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"dataset: {error}") from error


def build_plan(config: DictConfig) -> Plan:
    """The run's schedule, fitted to its length and data.

    Raises:
        UsageError: the schedule cannot be built, or does not fit the run.
    """
    scheduler = build_scheduler(config)
    if config.epochs < 1:
        raise UsageError(f"epochs must be at least 1, got {config.epochs}")
    try:
        return scheduler.bind(examples=config.dataset.examples, epochs=config.epochs)
    except ValueError as error:
        raise UsageError(f"scheduler.{error}") from error


def build_scheduler(config: DictConfig) -> Scheduler:
    """The run's scheduler, not yet fitted to it."""
    for shape in ("batch_size", "learning_rate"):
        value = config.scheduler[shape]
        if not isinstance(value, DictConfig):
            raise UsageError(
                f"scheduler.{shape} is a shape, got {value!r}: choose one with "
                f"scheduler/{shape}=NAME, set its values with scheduler.{shape}.initial=VALUE"
            )
    return build(config.scheduler, leave_out=("name",))  # type: ignore[no-any-return]


def check_settings(config: DictConfig) -> Plan:
    """Check all settings that can be checked before a model is made; return the plan.

    Raises:
        UsageError: a setting is out of range; one line that says what is allowed.
    """
    try:
        whole("seed", config.seed, 0)
        whole("measure.chunk", config.measure.chunk, 1)
        _check_cadence(config.measure, config.epochs)
        whole("tracking.every", config.tracking.every, 1)
        for threshold in config.tracking.thresholds:
            positive("tracking.thresholds", threshold)
        _check_hardware(config.hardware)
        at_least("checkpoint.seconds", config.checkpoint.seconds, 0)
        if config.checkpoint.epochs is not None:
            whole("checkpoint.epochs", config.checkpoint.epochs, 1)
        at_least("optimizer.momentum", config.optimizer.momentum, 0)
        at_least("optimizer.weight_decay", config.optimizer.weight_decay, 0)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if config.optimizer.nesterov and config.optimizer.momentum == 0:
        raise UsageError("optimizer.nesterov needs optimizer.momentum above 0, got 0")
    _check_names(config, RunConfig)
    plan = build_plan(config)
    try:
        build_source(config).prepare()
    except FileNotFoundError as error:
        raise UsageError(str(error)) from error
    return plan


def _check_hardware(hardware: DictConfig) -> None:
    whole("hardware.threads", hardware.threads, 1)
    whole("hardware.processes", hardware.processes, 1)
    whole("hardware.workers", hardware.workers, 0)
    if hardware.micro_batch is not None:
        whole("hardware.micro_batch", hardware.micro_batch, 1)
    for other in ("micro_batch", "compile"):
        if hardware.sync_batch_norm and hardware[other]:
            raise ValueError(f"hardware.sync_batch_norm and hardware.{other} exclude each other")


def _check_cadence(measure: DictConfig, epochs: int) -> None:
    names = ("every_epochs", "epochs", "every_steps")
    given = [name for name in names if measure[name] is not None]
    if len(given) > 1:
        raise ValueError(f"give one of measure.{' measure.'.join(names)}, got {', '.join(given)}")
    for name in ("every_epochs", "every_steps", "subset"):
        if measure[name] is not None:
            whole(f"measure.{name}", measure[name], 1)
    for name in ("epochs", "sharpness_epochs"):
        outside = [epoch for epoch in measure[name] or () if not 0 <= epoch <= epochs]
        if outside:
            raise ValueError(
                f"measure.{name} must be from 0 to {epochs}, the length of the run, "
                f"got {', '.join(map(str, outside))}"
            )
    others = [n for n in ("variance", "per_layer", "check", "dtype") if measure[n]]
    if measure.subset is not None and others:
        raise ValueError(
            "measure.subset gives an estimate of the norm alone, in float32: leave out "
            + ", ".join(others)
        )


def _check_names(config: DictConfig, schema: Any, prefix: str = "") -> None:
    """Raise UsageError where ``+name=value`` added a setting that nothing reads."""
    known = {part.name: part for part in fields(schema)}
    for name in map(str, config):
        if name not in known and name != "hydra":
            raise UsageError(
                f"there is no setting {prefix}{name}: known there are {', '.join(sorted(known))}"
            )
        if name in known and is_dataclass(known[name].default_factory):
            _check_names(config[name], known[name].default_factory, f"{prefix}{name}.")
