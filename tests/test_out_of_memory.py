"""A run that exceeds the memory of its device is saved, advises what to change, and resumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder
from accelerando.training import measurement, memory
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.step import SgdStep
from helpers import SHORT, identical, train

Settings = Callable[..., RunSettings]
Reference = Callable[..., RunFolder]
GROWING = (*SHORT, "scheduler.batch_size.final=1437")


def out_of_memory(*_: Any, **__: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[..] can't allocate memory: x")],
)
def test_a_step_that_exceeds_memory_saves_the_run_and_it_resumes(
    error: Exception, settings: Settings, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*GROWING, "model=cnn")
    config, expected = settings(*overrides), reference(*overrides)
    gradients = SgdStep.gradients

    def fail(self: SgdStep, images: Any, labels: Any, batch_size: int) -> Any:
        if len(labels) > 700:
            raise error
        return gradients(self, images, labels, batch_size)

    with monkeypatch.context() as patched:
        patched.setattr(SgdStep, "gradients", fail)
        patched.setattr(memory, "_fits_main_memory", lambda *_: True)
        with pytest.raises(
            UsageError, match=r"out of memory in epoch 2 on cpu; .* set hardware\.micro_batch=718"
        ):
            train(config)
    folder = RunFolder(run_folder(config))
    state = folder.read_state()
    assert state is not None
    assert (state.status, state.epoch) == ("failed", 2)
    assert "in fail" in state.traceback
    assert train(config).status == "finished"
    assert identical(folder, expected)


def test_a_step_that_exceeds_memory_does_not_change_batch_norm_statistics(
    settings: Settings, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*GROWING, "model=cnn_bn")
    config, expected = settings(*overrides), reference(*overrides)
    forward, calls = torch.nn.BatchNorm2d.forward, iter(range(1000))

    def fail(self: Any, images: Any) -> Any:
        result = forward(self, images)
        if self.training and next(calls) == 64:
            out_of_memory()
        return result

    advice = "resume on a device with more memory, or start a new run with hardware.micro_batch"
    with monkeypatch.context() as patched, pytest.raises(UsageError, match=advice):
        patched.setattr(torch.nn.BatchNorm2d, "forward", fail)
        train(config)
    checkpoint = Checkpoint.load(RunFolder(run_folder(config)), torch.device("cpu"), print)
    assert checkpoint is not None
    assert checkpoint.position.step == 24
    train(config)
    assert identical(RunFolder(run_folder(config)), expected)


def test_a_measurement_that_exceeds_memory_advises_a_smaller_chunk(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*GROWING, "model=cnn")
    advice = r"out of memory in epoch 0 on cpu; .* new run with measure\.chunk=256 or less"
    with monkeypatch.context() as patched, pytest.raises(UsageError, match=advice):
        patched.setattr(measurement, "full_gradient_of_chunks", out_of_memory)
        train(config)
    assert train(config).status == "finished"


def test_a_published_measurement_that_exceeds_memory_advises_smaller_batches(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*GROWING, "model=cnn", "measure.published=true", "hardware.micro_batch=64")
    advice = r"out of memory in epoch 0 on cpu; .* measure\.published uses complete batches"
    monkeypatch.setattr(measurement, "published_gradient_norm", out_of_memory)
    with pytest.raises(UsageError, match=advice):
        train(config)
