"""Invalid settings are rejected before anything is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from accelerando.checks import UsageError
from accelerando.config import MeasureSettings, RunSettings
from accelerando.measure.chunks import DEFAULT_CHUNK
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
