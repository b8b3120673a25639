"""Interrupted and killed runs resume bitwise identically, and their state is accurate."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.runs.folder import RunFolder
from accelerando.training import loop
from accelerando.training.step import SgdStep
from helpers import SHORT, after_epoch, identical, interrupt, read_rows, train

Settings = Callable[..., RunSettings]
Reference = Callable[..., RunFolder]


def at_step(step: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    calls, call = iter(range(1, 1000)), SgdStep.__call__

    def counted_step(self: SgdStep, *arguments: Any) -> torch.Tensor:
        if next(calls) == step:
            act()
        return call(self, *arguments)

    monkeypatch.setattr(SgdStep, "__call__", counted_step)


@pytest.mark.parametrize("step", [1, 23, 24, 30, 35])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_resumes_bitwise_identically(
    step: int,
    number: signal.Signals,
    settings: Settings,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interrupted mid-epoch, at a change of batch size (step 23) or just after, with momentum."""
    more = (*SHORT, "optimizer.momentum=0.9", "model=cnn_bn")
    broken, expected = settings(*more), reference(*more)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        at_step(step, lambda: signal.raise_signal(number), patched)
        train(broken)
    folder = RunFolder(run_folder(broken))
    state = folder.read_state()
    assert state is not None
    assert (state.status, state.message) == ("interrupted", f"by {number.name}")
    assert train(broken).status == "finished"
    assert identical(folder, expected)


def test_resuming_does_not_change_rounding_of_odd_sized_images(
    settings: Settings, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are views of a block, and matrix products round by memory alignment."""
    more = (
        "model=mlp", "dataset=synthetic", "dataset.shape=[3,7,7]", "dataset.examples=200",
        "dataset.test_examples=50", "epochs=2", "scheduler=decay_constant",
        "scheduler.batch_size.initial=33",
    )  # fmt: skip
    broken, expected = settings(*more), reference(*more)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        at_step(3, lambda: signal.raise_signal(signal.SIGTERM), patched)
        train(broken)
    train(broken)
    assert identical(RunFolder(run_folder(broken)), expected)


def test_rows_after_the_last_checkpoint_are_replaced(
    settings: Settings, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crashed run leaves rows newer than its checkpoint: none is duplicated or missing."""
    broken, expected = settings(*SHORT), reference(*SHORT)
    original = loop.Loop._measure

    def dies(self: loop.Loop) -> None:
        original(self)
        if self._position.epoch == 1:
            self._save()
        if self._position.epoch == 2:
            raise LookupError("no more")

    with monkeypatch.context() as patched, pytest.raises(LookupError):
        patched.setattr(loop.Loop, "_measure", dies)
        train(broken)
    folder = RunFolder(run_folder(broken))
    state = folder.read_state()
    assert state is not None
    assert (state.status, state.message) == ("failed", "LookupError: no more")
    assert "in dies" in state.traceback
    assert read_rows(folder.record)[-1]["epoch"] == 2
    train(broken)
    assert identical(folder, expected)


def test_the_last_of_two_signals_takes_precedence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that saves before its time limit may be cancelled: then it must not requeue."""
    original = loop.Loop._save

    def save(self: loop.Loop) -> None:
        signal.raise_signal(signal.SIGTERM)
        original(self)

    monkeypatch.setattr(loop.Loop, "_save", save)
    monkeypatch.setattr(loop.Loop, "_advance", lambda _: signal.raise_signal(signal.SIGUSR2))
    with pytest.raises(Interrupted, match="SIGTERM"):
        train(settings(*SHORT))


def test_the_state_is_accurate_as_soon_as_a_run_resumes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*SHORT)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        after_epoch(2, interrupt, patched)
        train(config)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(loop.Loop, "run", lambda self: signal.raise_signal(signal.SIGTERM)
                        or self._check_interrupt())  # fmt: skip
        train(config)
    state = RunFolder(run_folder(config)).read_state()
    assert state is not None
    assert (state.epoch, state.message) == (2, "by SIGTERM")
    assert state.full_gradient_norm is not None
