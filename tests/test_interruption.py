"""Signals: a run saves and stops, a second Ctrl-C ends it immediately, waiting ends."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import (
    SIGNALS,
    Interrupted,
    SignalHandler,
    check_interrupt,
    signals_blocked,
    unblock_signals,
)
from accelerando.runs import run_lock
from accelerando.runs.folder import RunFolder
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.loop import Loop
from helpers import SHORT, identical, start_process, train

Settings = Callable[..., RunSettings]
Reference = Callable[..., RunFolder]


def test_check_interrupt_raises_the_last_signal_received() -> None:
    check_interrupt()  # without a handler
    with SignalHandler() as handler:
        check_interrupt()
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGTERM)
        assert handler.signals == [signal.SIGUSR2, signal.SIGTERM]
        with pytest.raises(Interrupted, match="SIGTERM") as caught:
            check_interrupt()
        assert (caught.value.received, caught.value.code) == (signal.SIGTERM, 75)
    check_interrupt()


def test_inner_handler_is_the_active_one() -> None:
    with SignalHandler() as outer:
        with SignalHandler():
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(Interrupted):
                check_interrupt()
        check_interrupt()
        assert outer.received is None


def test_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with SignalHandler():
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_handler_has_no_effect_in_other_threads() -> None:
    before, inside = signal.getsignal(signal.SIGTERM), []

    def enter() -> None:
        with SignalHandler() as handler:
            handler.signals.append(signal.SIGTERM)
            check_interrupt()
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert inside == [before]


def test_unhandled_interrupt_ends_the_process_with_exit_code_75() -> None:
    code = (
        "import signal\n"
        "from accelerando.interruption import Interrupted\n"
        "raise Interrupted(signal.SIGTERM)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (75, "")


def test_child_processes_inherit_blocked_signals() -> None:
    with signals_blocked():
        blocked = start_process(["sleep", "60"])
    free = start_process(["sleep", "60"])
    for process in (blocked, free):
        process.send_signal(signal.SIGTERM)
    assert free.wait(30) == -signal.SIGTERM
    assert blocked.poll() is None


def test_child_processes_can_unblock_signals() -> None:
    with signals_blocked():
        process = start_process(["sleep", "60"], preexec_fn=unblock_signals)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM


def test_nohup_lets_the_run_continue() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with SignalHandler() as handler:
            signal.raise_signal(signal.SIGHUP)
        assert handler.received is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signal_interrupts_a_run(
    number: signal.Signals, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, advance = settings(*SHORT), Loop._advance

    def raise_signal(self: Loop) -> None:
        signal.raise_signal(number)
        advance(self)

    monkeypatch.setattr(Loop, "_advance", raise_signal)
    with pytest.raises(Interrupted):
        train(config)
    state = RunFolder(run_folder(config)).read_state()
    assert state is not None
    assert (state.status, state.step, state.message) == ("interrupted", 0, f"by {number.name}")


def test_second_ctrl_c_while_saving_ends_the_run_immediately_and_it_can_resume(
    settings: Settings, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = (*SHORT, "checkpoint.seconds=0", "optimizer.momentum=0.9")
    config, expected = settings(*more), reference(*more)
    write, calls = Checkpoint.write, iter(range(1, 1000))

    def press_ctrl_c_twice(self: Checkpoint, file: Any) -> None:
        write(self, file)
        if next(calls) == 30:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    folder = RunFolder(run_folder(config))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoint, "write", press_ctrl_c_twice)
        train(config)
    state = folder.read_state()
    assert state is not None
    assert (state.status, state.message) == ("interrupted", "by SIGINT")
    assert not list(folder.path.glob(".*"))
    assert train(config).status == "finished"
    assert identical(folder, expected)


def test_signal_while_waiting_for_data_leaves_the_state_unchanged(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*SHORT)
    state = RunFolder(run_folder(config)).state
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(Loop, "_advance", lambda _: signal.raise_signal(signal.SIGTERM))
        train(config)
    before = state.read_bytes()
    monkeypatch.setenv("ACCELERANDO_DATA", str(tmp_path / "data"))
    lock = tmp_path / "data" / "decoded" / ".digits.lock"
    lock.parent.mkdir(parents=True)
    calls, sleep = iter(range(100)), time.sleep

    def raise_signal(seconds: float) -> None:
        sleep(seconds)
        signal.raise_signal(signal.SIGUSR2)
        assert next(calls) < 5, "still waiting"

    with lock.open("a") as other, monkeypatch.context() as patched:
        fcntl.flock(other, fcntl.LOCK_EX)
        patched.setattr("accelerando.data.storage.time.sleep", raise_signal)
        with pytest.raises(Interrupted, match="SIGUSR2"):
            train(config)
    assert state.read_bytes() == before
    assert train(config).status == "finished"


def test_signal_ends_the_wait_for_the_lock_of_another_machine(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*SHORT)
    folder = run_folder(config)
    folder.mkdir(parents=True)
    path = folder / ".claim-1"
    path.write_text(json.dumps(asdict(replace(run_lock.Owner.current(), machine="another"))))
    sleep = time.sleep

    def raise_signal(seconds: float) -> None:
        sleep(seconds)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("accelerando.runs.run_lock.time.sleep", raise_signal)
    begin = time.monotonic()
    with pytest.raises(Interrupted):
        train(config)
    assert time.monotonic() - begin < run_lock.TIMEOUT_SECONDS / 2
    assert path.exists()
