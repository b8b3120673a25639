"""The settings of a run: the schema that Hydra composes, its frozen form, and its checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from accelerando.checks import UsageError, at_least, positive, whole
from accelerando.schedule.stages import DEFAULT_LENGTHS


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


@dataclass(frozen=True)
class OptimizerSettings:
    """Mini-batch SGD; plain by default, as in the paper."""

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class CheckpointSettings:
    """How often a run can be continued from."""

    seconds: float = 60.0
    epochs: int | None = None


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class ModelSettings:
    """The group ``model``.

    Args:
        name: what folders and tables call the model.
        target: ``_target_`` and arguments of its constructor.
    """

    name: str
    target: Mapping[str, Any]


@dataclass(frozen=True)
class DatasetSettings:
    """The group ``dataset``.

    Args:
        name: what folders and tables call the data set.
        examples: number of training examples.
        shape: of one example.
        classes: number of classes.
        target: ``_target_`` and arguments of the source's constructor.
        augmentation: ``_target_`` and arguments of the augmentation; None: there is none.
    """

    name: str
    examples: int
    shape: tuple[int, ...]
    classes: int
    target: Mapping[str, Any]
    augmentation: Mapping[str, Any] | None


@dataclass(frozen=True)
class SchedulerSettings:
    """The group ``scheduler``.

    Args:
        name: what folders and tables call the scheduler.
        target: ``_target_`` and arguments of its constructor, shapes included.
    """

    name: str
    target: Mapping[str, Any]


@dataclass(frozen=True)
class RunSettings:
    """Everything a run is made of, resolved, typed and immutable.

    Args:
        tree: all settings as plain values; recorded, sent to W&B and hashed into the run id.
    """

    model: ModelSettings
    dataset: DatasetSettings
    scheduler: SchedulerSettings
    optimizer: OptimizerSettings
    hardware: HardwareSettings
    measure: MeasureSettings
    tracking: TrackingSettings
    checkpoint: CheckpointSettings
    precision: Precision
    epochs: int
    seed: int
    root: str
    tree: Mapping[str, Any]

    @classmethod
    def from_hydra(cls, config: DictConfig) -> RunSettings:
        """Convert what Hydra composed.

        Raises:
            UsageError: a setting that does not exist was added, or a group is not a group.
            OmegaConfBaseException: a value is missing or cannot be resolved.
        """
        _check_names(config, RunConfig)
        tree = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
        assert isinstance(tree, dict)
        plain = {str(key): value for key, value in tree.items() if key != "hydra"}
        for group in ("model", "dataset", "scheduler"):
            if not isinstance(plain[group], dict):
                raise UsageError(
                    f"{group} is a group of settings, got {plain[group]!r}: "
                    f"choose one with {group}=NAME"
                )
        dataset = config.dataset
        typed: dict[str, Any] = {
            part.name: OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
            for part in fields(RunConfig)
            if part.name not in ("model", "dataset", "scheduler")
            for value in [config[part.name]]
        }
        return cls(
            model=ModelSettings(str(config.model.name), _without(plain["model"], "name")),
            dataset=DatasetSettings(
                name=str(dataset.name),
                examples=dataset.examples,
                shape=tuple(dataset.shape),
                classes=dataset.classes,
                target=_without(plain["dataset"], "name", "epochs", "augmentation"),
                augmentation=plain["dataset"].get("augmentation"),
            ),
            scheduler=SchedulerSettings(
                str(config.scheduler.name), _without(plain["scheduler"], "name")
            ),
            tree=plain,
            **typed,
        )

    def with_row_interval(self, steps: int) -> RunSettings:
        """The same settings with ``tracking.every`` replaced."""
        tracking = {**self.tree["tracking"], "every": steps}
        return replace(
            self,
            tracking=replace(self.tracking, every=steps),
            tree={**self.tree, "tracking": tracking},
        )

    def to_yaml(self) -> str:
        """All settings as YAML."""
        return OmegaConf.to_yaml(OmegaConf.create(dict(self.tree)))


def _without(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in names}


def register() -> None:
    """Register the schema with Hydra and the resolvers of default lengths with OmegaConf."""
    ConfigStore.instance().store(name="schema", node=_writable(OmegaConf.structured(RunConfig)))
    for name, length in DEFAULT_LENGTHS.items():
        OmegaConf.register_new_resolver(name, length, replace=True)


def _writable(node: DictConfig) -> DictConfig:
    """Let overrides change ``node``: OmegaConf makes configs of frozen dataclasses read-only."""
    OmegaConf.set_readonly(node, None)
    for key in node:
        if not OmegaConf.is_missing(node, key) and isinstance(node[key], DictConfig):
            _writable(node[key])
    return node


def check_settings(settings: RunSettings) -> None:
    """Check every value that can be checked by itself.

    Raises:
        UsageError: a value is out of range; the message says what is allowed.
    """
    tracking, checkpoint, optimizer = settings.tracking, settings.checkpoint, settings.optimizer
    try:
        whole("epochs", settings.epochs, 1)
        whole("seed", settings.seed, 0)
        whole("measure.chunk", settings.measure.chunk, 1)
        _check_cadence(settings.measure, settings.epochs)
        whole("tracking.every", tracking.every, 1)
        for threshold in tracking.thresholds:
            positive("tracking.thresholds", threshold)
        _check_hardware(settings.hardware)
        at_least("checkpoint.seconds", checkpoint.seconds, 0)
        if checkpoint.epochs is not None:
            whole("checkpoint.epochs", checkpoint.epochs, 1)
        at_least("optimizer.momentum", optimizer.momentum, 0)
        at_least("optimizer.weight_decay", optimizer.weight_decay, 0)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if optimizer.nesterov and optimizer.momentum == 0:
        raise UsageError("optimizer.nesterov needs optimizer.momentum above 0, got 0")


def _check_hardware(hardware: HardwareSettings) -> None:
    whole("hardware.threads", hardware.threads, 1)
    whole("hardware.processes", hardware.processes, 1)
    whole("hardware.workers", hardware.workers, 0)
    if hardware.micro_batch is not None:
        whole("hardware.micro_batch", hardware.micro_batch, 1)
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
        if (value := getattr(measure, name)) is not None:
            whole(f"measure.{name}", value, 1)
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
