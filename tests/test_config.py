"""Run ids change with the settings that change results, and with no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from accelerando.checks import UsageError
from accelerando.config import MeasureSettings, RunSettings
from accelerando.identity import run_folder, run_id
from accelerando.measure.chunks import DEFAULT_CHUNK
from accelerando.validation import validate

Settings = Callable[..., RunSettings]


@pytest.mark.parametrize(
    "override",
    ["root=/elsewhere", "hardware.threads=2", "tracking.every=7", "tracking=offline",
     "checkpoint.seconds=1", "epochs=100", "scheduler.batch_size.interval=10",
     "scheduler.name=mine", "optimizer.momentum=0"],
)  # fmt: skip
def test_settings_that_keep_the_run_id(override: str, settings: Settings) -> None:
    assert run_id(settings(override)) == run_id(settings())


@pytest.mark.parametrize(
    "override",
    ["seed=1", "epochs=99", "model=mlp", "model.widths=[8]", "scheduler=decay_increase",
     "scheduler.learning_rate.peak=0.3", "scheduler.batch_size.interval=9", "measure.chunk=100",
     "measure.batch_norm=running", "optimizer.momentum=0.9", "dataset=fashion_mnist"],
)  # fmt: skip
def test_settings_that_change_the_run_id(override: str, settings: Settings) -> None:
    assert run_id(settings(override)) != run_id(settings())


def test_the_run_id_of_the_default_run(settings: Settings) -> None:
    """Changing it would orphan all existing runs: increment SCHEMA only on purpose."""
    assert run_id(settings()) == "f444e2033a"


def test_the_folder_name_is_readable(settings: Settings) -> None:
    folder = run_folder(settings("seed=3"))
    assert folder.parts[-3:-1] == ("digits-cnn", "warmup_increase")
    assert folder.name.startswith("seed3-")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=0", "epochs must be at least 1, got 0"),
        ("seed=-1", "seed must be at least 0, got -1"),
        ("scheduler.batch_size.initial=0", "scheduler.batch_size: initial must be at least 1"),
        ("scheduler.batch_size.initial=1438", "scheduler.batch_size: initial must be at most"),
        ("scheduler.learning_rate.initial=-1", "scheduler.learning_rate: initial must be above 0"),
        ("scheduler.learning_rate.initial=x", "scheduler.learning_rate: initial must be a finite"),
        ("optimizer.nesterov=true", "nesterov needs optimizer.momentum above 0"),
        ("measure.chunk=0", "measure.chunk must be at least 1"),
    ],
)
def test_invalid_settings_are_rejected_before_training(
    override: str, message: str, settings: Settings
) -> None:
    with pytest.raises(UsageError, match=message):
        validate(settings(override))


def test_missing_data_explains_how_to_obtain_them(settings: Settings) -> None:
    config = settings("dataset=fashion_mnist", "dataset.folder=/nowhere")
    with pytest.raises(UsageError, match="lacks train-images") as caught:
        validate(config)
    for way in ("dataset.folder=DIR", "apt install dataset-fashion-mnist", "network access"):
        assert way in str(caught.value)


def test_the_default_chunk_is_the_same_everywhere(settings: Settings) -> None:
    assert MeasureSettings().chunk == settings().measure.chunk == DEFAULT_CHUNK
