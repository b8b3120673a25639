"""Requeueing the job of this process, with a SLURM controller that may not respond."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from accelerando.launch import requeue as module
from accelerando.launch.requeue import requeue


class Controller:
    """SLURM's controller: fails ``failures`` times before it accepts."""

    def __init__(self, failures: int, *, cancels: bool = False) -> None:
        self.failures, self.cancels, self.attempts = failures, cancels, 0

    def __call__(self) -> None:
        self.attempts += 1
        if self.cancels:
            signal.raise_signal(signal.SIGTERM)
        if self.attempts <= self.failures:
            raise subprocess.CalledProcessError(1, ["scontrol", "requeue", "7"])


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", (0, 0, 0, 0))


def test_failed_attempts_are_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    controller = Controller(failures=2)
    requeue(controller)
    assert controller.attempts == 3
    assert "not requeued" not in capfd.readouterr().err


def test_last_failed_attempt_explains_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    controller = Controller(failures=100)
    requeue(controller)
    assert controller.attempts == 4
    message = capfd.readouterr().err
    assert message.endswith("not requeued: submit the saved runs again to resume them\n")


def test_cancelled_job_is_not_requeued() -> None:
    controller = Controller(failures=1, cancels=True)
    requeue(controller)
    assert controller.attempts == 1


def test_batch_scripts_requeue_the_task_of_an_array(tmp_path: Path) -> None:
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "scontrol").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "9",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3",
    }
    command = [sys.executable, "-m", "accelerando.launch.requeue"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "requeue 7_3\n")
