"""The preflight checks of a sweep run in their own process, which may be signalled or killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.launch import planning
from accelerando.launch.planning import PlannedRun, check_runs, plan_runs
from accelerando.launch.pool import Job
from accelerando.validation import validate


def signal_process(process: int, number: int, *_: object) -> None:
    os.kill(process, number)


def kill_itself(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def run(settings: Callable[..., RunSettings], tmp_path: Path) -> PlannedRun:
    chosen = settings()
    return PlannedRun(chosen, validate(chosen), Job("run", tmp_path, print))


def test_signal_during_the_checks_is_not_lost(
    run: PlannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes effect even if the checks end at the same time and need not be stopped."""
    checks = partial(signal_process, os.getpid(), signal.SIGINT)
    monkeypatch.setattr(planning, "_preflight", checks)
    with pytest.raises(KeyboardInterrupt):
        check_runs([run], devices=False)


def test_killed_checks_suggest_lack_of_memory(
    run: PlannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Login nodes kill processes that use much memory; the log is empty then."""
    monkeypatch.setattr(planning, "_preflight", kill_itself)
    with pytest.raises(UsageError, match="killed by SIGKILL; this machine may"):
        check_runs([run], devices=False)


def test_sweep_without_runs_is_refused() -> None:
    with pytest.raises(UsageError, match="the sweep has no runs"):
        plan_runs([])
