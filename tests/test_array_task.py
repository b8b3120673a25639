"""A task of a job array puts its job back into the queue, by several attempts if need be."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from accelerando.interruption import Interrupted
from accelerando.launch import array_task
from accelerando.launch.array_task import ArrayTask
from accelerando.launch.pool import Job


def leave() -> None:
    """As a run does that has saved itself at the signal."""
    raise Interrupted(signal.SIGUSR2)


class Controller:
    """Answers after so many attempts, in the place of submitit's handler of the signal."""

    def __init__(self) -> None:
        self.silent, self.attempts, self.cancels = 0, 0, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.attempts += 1
        if self.cancels:
            signal.raise_signal(signal.SIGTERM)
        if self.attempts <= self.silent:
            raise subprocess.CalledProcessError(1, ["scontrol", "requeue", "7"])
        sys.exit(-1)


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    monkeypatch.setattr(array_task, "PAUSES", (0, 0, 0, 0))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    before = signal.signal(signal.SIGUSR2, found := Controller())
    yield found
    signal.signal(signal.SIGUSR2, before)


def exit_code(tmp_path: Path) -> object:
    with pytest.raises(SystemExit) as caught:
        ArrayTask([Job("run", tmp_path, leave)])()
    return caught.value.code


def test_a_controller_that_is_silent_is_asked_again(controller: Controller, tmp_path: Path) -> None:
    controller.silent = 2
    assert exit_code(tmp_path) == -1
    assert controller.attempts == 3


def test_where_it_stays_silent_it_is_said_what_to_do(
    controller: Controller, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    controller.silent = 100
    assert exit_code(tmp_path) == 75
    assert controller.attempts == 4
    assert capfd.readouterr().err.endswith("the command that submitted them goes on with them\n")


def test_a_job_that_is_cancelled_meanwhile_is_not_put_back(
    controller: Controller, tmp_path: Path
) -> None:
    controller.silent, controller.cancels = 1, True
    assert exit_code(tmp_path) == 75
    assert controller.attempts == 1
