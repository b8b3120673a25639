"""A task of a job array hands the requeueing over to submitit after the right signal only."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from accelerando.interruption import EXIT_INTERRUPTED, Interrupted
from accelerando.launch import requeue
from accelerando.launch.array_task import ArrayTask
from accelerando.launch.pool import Job

REQUEUED = 17
"""Exit code of the stand-in for submitit's signal handler."""


class SubmititHandler:
    """Stand-in for submitit's signal handler: requeues the job and exits."""

    def __init__(self) -> None:
        self.failures, self.calls = 0, 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise subprocess.CalledProcessError(1, ["scontrol", "requeue", "7"])
        sys.exit(REQUEUED)


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[SubmititHandler]:
    monkeypatch.setattr(requeue, "PAUSES", (0, 0, 0, 0))
    previous = signal.signal(signal.SIGUSR2, handler := SubmititHandler())
    yield handler
    signal.signal(signal.SIGUSR2, previous)


def interrupted(received: signal.Signals | None) -> None:
    """Stand-in for a run that saved itself after a signal."""
    raise Interrupted(received)


def exit_code(folder: Path, received: signal.Signals | None) -> object:
    with pytest.raises(SystemExit) as caught:
        ArrayTask([Job("run", folder, partial(interrupted, received))])()
    return caught.value.code


def test_job_is_requeued_at_its_time_limit(handler: SubmititHandler, tmp_path: Path) -> None:
    handler.failures = 2
    assert exit_code(tmp_path, signal.SIGUSR2) == REQUEUED
    assert handler.calls == 3


def test_run_stays_saved_if_the_job_cannot_be_requeued(
    handler: SubmititHandler, tmp_path: Path
) -> None:
    handler.failures = 100
    assert exit_code(tmp_path, signal.SIGUSR2) == EXIT_INTERRUPTED


@pytest.mark.parametrize("received", [signal.SIGTERM, None])
def test_job_is_not_requeued_after_other_signals(
    received: signal.Signals | None, handler: SubmititHandler, tmp_path: Path
) -> None:
    assert exit_code(tmp_path, received) == EXIT_INTERRUPTED
    assert handler.calls == 0
