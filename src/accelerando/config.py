"""The settings of a run: the schema that Hydra checks, and the typed settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from accelerando.schedule.stages import DEFAULT_LENGTHS


class TrackingMode(Enum):
    """How runs are tracked in W&B; auto is online if the user is logged in, else offline."""

    auto = "auto"
    offline = "offline"
    online = "online"
    disabled = "disabled"


class BatchNormMode(Enum):
    """BatchNorm statistics used when measuring the full gradient."""

    batch = "batch"
    running = "running"


class MeasureDtype(Enum):
    """Floating-point type of the full gradient."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"


class Precision(Enum):
    """Floating-point format of matrix products in a training step."""

    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"


class Yardstick(Enum):
    """Ways in which published code measures the full gradient norm; see ``measure.published``."""

    paper = "paper"
    adaptive_scheduler = "adaptive_scheduler"
    tracking_cbs = "tracking_cbs"


@dataclass(frozen=True)
class OptimizerSettings:
    """Mini-batch SGD; plain by default, as in the paper."""

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
class HardwareSettings:
    """What a run is computed on, and how batches are split."""

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
    published: Any = field(default_factory=list)  # of Yardstick names; true: paper
    augmented: int | None = None
    subset: int | None = None
    sharpness_epochs: list[int] = field(default_factory=list)
    check: bool = False


@dataclass(frozen=True)
class TrackingSettings:
    """W&B settings; ``every`` is in steps, ``thresholds`` are full gradient norms."""

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
    """How often a checkpoint is saved."""

    seconds: float = 60.0
    epochs: int | None = None


@dataclass(frozen=True)
class RunConfig:
    """The schema that Hydra checks; ``conf/config.yaml`` documents each setting."""

    model: Any = MISSING
    dataset: Any = MISSING
    scheduler: Any = MISSING
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    hardware: HardwareSettings = field(default_factory=HardwareSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    precision: Precision = Precision.fp32
    steps: int | None = None
    epochs: int = MISSING
    seed: int = MISSING
    root: str = MISSING


@dataclass(frozen=True)
class GroupSettings:
    """The group ``model`` or ``scheduler``.

    Args:
        name: what folders and tables call it.
        target: ``_target_`` and arguments of its constructor.
    """

    name: str
    target: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DatasetSettings(GroupSettings):
    """The group ``dataset``.

    Args:
        examples: number of training examples.
        shape: of one example.
        classes: number of classes.
        augmentation: ``_target_`` and arguments of the augmentation; None for no augmentation.
    """

    examples: int
    shape: tuple[int, ...]
    classes: int
    augmentation: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class RunSettings(RunConfig):
    """All settings of a run, resolved, typed and immutable.

    Args:
        tree: all settings as plain values; recorded, sent to W&B and hashed into the run id.
    """

    model: GroupSettings
    dataset: DatasetSettings
    scheduler: GroupSettings
    tree: Mapping[str, Any]

    def with_row_interval(self, steps: int) -> RunSettings:
        """Return the same settings with ``tracking.every`` replaced."""
        tracking = {**self.tree["tracking"], "every": steps}
        return replace(
            self,
            tracking=replace(self.tracking, every=steps),
            tree={**self.tree, "tracking": tracking},
        )

    def to_yaml(self) -> str:
        """Return all settings as YAML."""
        return OmegaConf.to_yaml(OmegaConf.create(dict(self.tree)))


def register_schema() -> None:
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
