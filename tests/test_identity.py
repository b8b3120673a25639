"""Run ids change with the settings that change results, and with no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from accelerando.config import RunSettings
from accelerando.identity import run_folder, run_id

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


def test_separate_batch_norm_statistics_change_the_run_id(settings: Settings) -> None:
    ids = {
        run_id(settings("model=cnn_bn", *more))
        for more in (
            (),
            ("hardware.processes=2",),
            ("hardware.processes=3",),
            ("hardware.micro_batch=32",),
        )
    }
    assert len(ids) == 4
    plain = settings("hardware.processes=2", "hardware.micro_batch=32", "precision=fp32")
    assert run_id(plain) == run_id(settings())
    assert run_id(settings("precision=bf16")) != run_id(settings())
