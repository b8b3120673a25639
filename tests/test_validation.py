"""Settings that are out of range or do not fit together are rejected before anything is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.validation import validate

Settings = Callable[..., RunSettings]


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
def test_invalid_values_are_rejected(override: str, message: str, settings: Settings) -> None:
    with pytest.raises(UsageError, match=message):
        validate(settings(override))


def test_missing_data_explains_how_to_obtain_them(settings: Settings) -> None:
    config = settings("dataset=fashion_mnist", "dataset.folder=/nowhere")
    with pytest.raises(UsageError, match="lacks train-images") as caught:
        validate(config)
    for way in ("dataset.folder=DIR", "apt install dataset-fashion-mnist", "network access"):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("measure.epochs=[1]", "measure.every_epochs=2"), "got every_epochs, epochs"),
        (("epochs=3", "measure.epochs=[1,4]"), "measure.epochs must be between 0 and 3, .* got 4"),
        (("epochs=3", "measure.sharpness_epochs=[-1]"), "sharpness_epochs must be .* got -1"),
        (("measure.every_steps=0",), "measure.every_steps must be at least 1, got 0"),
        (
            ("measure.subset=100", "measure.variance=true"),
            "cannot be combined with measure.variance",
        ),
        (("measure.subset=100", "measure.dtype=float64"), "cannot be combined with measure.dtype"),
    ],
)
def test_invalid_measurements_are_rejected(
    overrides: tuple[str, ...], message: str, settings: Settings
) -> None:
    with pytest.raises(UsageError, match=message):
        validate(settings(*overrides))


def test_incompatible_settings_are_rejected(settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"hardware\.micro_batch cannot be combined"):
        validate(settings("hardware.sync_batch_norm=true", "hardware.micro_batch=8"))
    with pytest.raises(UsageError, match=r"hardware\.processes must be at least 1, got 0"):
        validate(settings("hardware.processes=0"))
