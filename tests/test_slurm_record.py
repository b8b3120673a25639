"""``slurm.json``, which records the SLURM job of a run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from accelerando.checks import UsageError
from accelerando.runs.slurm_record import SlurmRecord, read_slurm_record, record_current_job


@pytest.fixture(autouse=True)
def outside_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)


def recorded(folder: Path) -> SlurmRecord:
    record_current_job(folder)
    record = read_slurm_record(folder)
    assert record is not None
    return record


def test_job_that_a_run_is_started_in_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    record = recorded(tmp_path)
    assert (record.job, record.job_starts_run) == ("12", False)
    assert time.time() - record.submitted < 60
    assert recorded(tmp_path) == record


def test_task_of_a_plain_array_restarts_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "10")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("ACCELERANDO_ARRAY", "yes")
    record = recorded(tmp_path)
    assert (record.job, record.job_starts_run) == ("10_3", True)
    assert json.loads((tmp_path / "slurm.json").read_text())["starts_it"] is True


def test_record_is_removed_outside_slurm(tmp_path: Path) -> None:
    SlurmRecord("7", "", job_starts_run=True).write(tmp_path)
    record_current_job(tmp_path)
    assert read_slurm_record(tmp_path) is None


def test_corrupt_record_is_reported_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slurm.json").write_text("{")
    with pytest.raises(UsageError, match=r"slurm\.json is corrupt"):
        read_slurm_record(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert recorded(tmp_path).job == "12"
