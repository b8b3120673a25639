"""Runs that fail before they start: the failure is recorded if there is a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accelerando.checks import UsageError
from accelerando.commands import main
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.launch.pool import Job, JobResult
from accelerando.launch.sweep_progress import job_outcome
from accelerando.runs.folder import RunFolder
from accelerando.runs.listing import list_runs
from accelerando.runs.run_lock import Owner
from accelerando.training import memory
from helpers import SHORT, identical, interrupt_at_step, train, write_lock

Settings = Callable[..., RunSettings]
Reference = Callable[..., RunFolder]


def no_data(*_: Any) -> None:
    raise UsageError("the data are gone")


@pytest.fixture
def interrupted(settings: Settings) -> RunSettings:
    config = settings(*SHORT)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Interrupted):
        interrupt_at_step(30, patched)
        train(config)
    return config


def test_a_run_that_cannot_resume_records_the_failure_and_keeps_its_checkpoint(
    interrupted: RunSettings, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(run_folder(interrupted))
    before = folder.read_state()
    with monkeypatch.context() as patched, pytest.raises(UsageError, match="the data are gone"):
        patched.setattr("accelerando.training.run.prepare_task", no_data)
        train(interrupted)
    state = folder.read_state()
    assert state is not None
    assert before is not None
    assert (state.status, state.message) == ("failed", "UsageError: the data are gone")
    assert "in no_data" in state.traceback
    assert (state.step, state.wandb) == (before.step, before.wandb)
    assert train(interrupted).status == "finished"
    assert identical(folder, reference(*SHORT))


def test_a_run_of_a_sweep_that_cannot_start_is_listed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder exists before it starts, for its output."""
    config = settings(*SHORT, "model=cnn", "scheduler.batch_size.final=1437")
    folder = RunFolder(run_folder(config))
    folder.path.mkdir(parents=True)
    folder.output.write_text("")
    with monkeypatch.context() as patched, pytest.raises(UsageError, match="does not fit"):
        patched.setattr(memory, "available_memory", lambda: 3_000_000)
        train(config)
    (run,) = list_runs(Path(config.root))
    assert run.status == "failed"
    assert "does not fit into the memory" in run.details
    assert job_outcome(Job("job", folder.path, print), JobResult(1)) == ("failed", run.details)
    main(["sync", config.root])
    assert "1 not started" in capsys.readouterr().out
    assert train(config).status == "finished"


def test_a_run_locked_by_another_process_is_not_touched(
    interrupted: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(run_folder(interrupted))
    before = folder.state.read_bytes()
    write_lock(folder.path, Owner.current())
    monkeypatch.setattr("accelerando.training.run.prepare_task", no_data)
    with pytest.raises(UsageError, match="the data are gone"):
        train(interrupted)
    assert folder.state.read_bytes() == before


def test_a_run_completed_by_another_process_stays_complete(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*SHORT)
    folder = RunFolder(run_folder(config))

    def ends(*_: Any) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("accelerando.training.run.prepare_task", prepare_task)
            train(config)
        no_data()

    from accelerando.training.run import prepare_task

    monkeypatch.setattr("accelerando.training.run.prepare_task", ends)
    with pytest.raises(UsageError, match="the data are gone"):
        train(config)
    state = folder.read_state()
    assert state is not None
    assert state.status == "finished"
