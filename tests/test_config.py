"""Composed settings become typed and immutable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest
from omegaconf import OmegaConf

from accelerando.config import MeasureSettings, RunSettings, TrackingMode
from accelerando.measure.chunks import DEFAULT_CHUNK

Settings = Callable[..., RunSettings]


def test_groups_are_split_into_names_and_targets(settings: Settings) -> None:
    config = settings("model=mlp", "scheduler=decay_constant", "dataset=cifar10")
    assert (config.model.name, config.scheduler.name) == ("mlp", "decay_constant")
    assert set(config.model.target) == {"_target_", "widths"}
    dataset = config.dataset
    assert (dataset.name, dataset.examples, dataset.shape) == ("cifar10", 50_000, (3, 32, 32))
    assert dataset.augmentation is not None
    assert not {"name", "epochs", "augmentation"} & set(dataset.target)


def test_settings_are_typed_and_immutable(settings: Settings) -> None:
    config = settings("tracking.tags=[pilot]")
    assert config.tracking.mode is TrackingMode.disabled
    assert config.tracking.tags == ["pilot"]
    with pytest.raises(FrozenInstanceError):
        config.epochs = 3  # type: ignore[misc]


def test_yaml_contains_all_resolved_settings(settings: Settings) -> None:
    config = settings("epochs=20")
    tree = OmegaConf.to_container(OmegaConf.create(config.to_yaml()))
    assert tree == config.tree
    assert config.tree["scheduler"]["batch_size"]["interval"] == 2


def test_row_interval_is_replaced_everywhere(settings: Settings) -> None:
    config = settings().with_row_interval(7)
    assert config.tracking.every == config.tree["tracking"]["every"] == 7


def test_the_default_chunk_is_the_same_everywhere(settings: Settings) -> None:
    assert MeasureSettings().chunk == settings().measure.chunk == DEFAULT_CHUNK
