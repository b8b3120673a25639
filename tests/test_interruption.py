"""Signals: each of them saves and stops, a second Ctrl-C ends at once, waiting is given up."""

from __future__ import annotations

import fcntl
import json
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted, SignalHandler
from accelerando.runs import run_lock
from accelerando.runs.folder import RunFolder
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.loop import Loop
from helpers import SHORT, identical, train

Settings = Callable[..., RunSettings]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_interrupt_too(
    number: signal.Signals, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, advance = settings(*SHORT), Loop._advance

    def signalled(self: Loop) -> None:
        signal.raise_signal(number)
        advance(self)

    monkeypatch.setattr(Loop, "_advance", signalled)
    with pytest.raises(Interrupted):
        train(config)
    state = RunFolder(run_folder(config)).read_state()
    assert state is not None
    assert (state.status, state.step, state.message) == ("interrupted", 0, f"by {number.name}")


def test_nohup_lets_the_run_go_on() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with SignalHandler() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert stop.received is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_interruption_ends_at_once(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here in the middle of a checkpoint: the folder is one to go on from."""
    more = (*SHORT, "checkpoint.seconds=0", "optimizer.momentum=0.9")
    whole, broken = settings(*more, f"root={tmp_path}/whole"), settings(*more)
    train(whole)
    write, calls = Checkpoint.write, iter(range(1, 1000))

    def twice(self: Checkpoint, file: Any) -> None:
        write(self, file)
        if next(calls) == 30:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    folder = RunFolder(run_folder(broken))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoint, "write", twice)
        train(broken)
    state = folder.read_state()
    assert state is not None
    assert (state.status, state.message) == ("interrupted", "by SIGINT")
    assert not list(folder.path.glob(".*"))
    assert train(broken).status == "finished"
    assert identical(folder, RunFolder(run_folder(whole)))


def test_a_signal_ends_the_waiting_for_data(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure of a run that goes on: its folder says what it said."""
    config = settings(*SHORT)
    state = RunFolder(run_folder(config)).state
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(Loop, "_advance", lambda _: signal.raise_signal(signal.SIGTERM))
        train(config)
    before = state.read_bytes()
    monkeypatch.setenv("ACCELERANDO_DATA", str(tmp_path / "data"))
    lock = tmp_path / "data" / "decoded" / ".digits.lock"
    lock.parent.mkdir(parents=True)
    slept, sleep = iter(range(100)), time.sleep

    def signalled(seconds: float) -> None:
        sleep(seconds)
        signal.raise_signal(signal.SIGUSR2)
        assert next(slept) < 5, "it goes on waiting"

    with lock.open("a") as other, monkeypatch.context() as patched:
        fcntl.flock(other, fcntl.LOCK_EX)
        patched.setattr("accelerando.data.storage.time.sleep", signalled)
        with pytest.raises(Interrupted, match="SIGUSR2"):
            train(config)
    assert state.read_bytes() == before
    assert train(config).status == "finished"


def test_a_signal_ends_the_waiting_for_another_machine(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*SHORT)
    folder = run_folder(config)
    folder.mkdir(parents=True)
    path = folder / ".claim-1"
    path.write_text(json.dumps(asdict(replace(run_lock.Owner.current(), machine="another"))))
    sleep = time.sleep

    def signalled(seconds: float) -> None:
        sleep(seconds)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("accelerando.runs.run_lock.time.sleep", signalled)
    begin = time.monotonic()
    with pytest.raises(Interrupted):
        train(config)
    assert time.monotonic() - begin < run_lock.TIMEOUT_SECONDS / 2
    assert path.exists()
