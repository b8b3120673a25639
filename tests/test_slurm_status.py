"""Runs as their folders and SLURM tell of them, at every stage; SLURM's answers are given here."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from accelerando.checks import UsageError
from accelerando.commands import main
from accelerando.commands.logs import output_files
from accelerando.launch import slurm_status
from accelerando.launch.slurm_status import SlurmJob
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.listing import list_runs
from accelerando.runs.slurm_record import SlurmRecord, read_slurm_record, record_current_job

STAGES = {
    # what the run says, what squeue says, what sacct says: status and words
    "submitted": (None, SlurmJob("PENDING", "Resources"), None, "pending", "Resources, job 7_1"),
    "begun": (None, SlurmJob("RUNNING", "", "n2"), None, "starting", "on n2, job 7_1"),
    "failed beside others": (
        Status.FAILED,
        SlurmJob("RUNNING", "", "n2", 1.0),
        None,
        Status.FAILED,
        "on n2",
    ),
    "begun again": (
        Status.INTERRUPTED,
        SlurmJob("RUNNING", "", "n2", 9e9),
        None,
        "starting",
        "on n2",
    ),
    "ending": (Status.FINISHED, SlurmJob("COMPLETING"), None, Status.FINISHED, ""),
    "put back": (
        Status.INTERRUPTED,
        SlurmJob("PENDING", "BeginTime"),
        None,
        "requeued",
        "BeginTime",
    ),
    "killed": (
        Status.RUNNING,
        None,
        SlurmJob("OUT_OF_MEMORY"),
        Status.FAILED,
        "OUT_OF_MEMORY, job 7_1",
    ),
    "lost": (Status.RUNNING, None, None, Status.FAILED, "no longer in SLURM's queue, job 7_1"),
    "cancelled": (
        Status.INTERRUPTED,
        None,
        SlurmJob("CANCELLED"),
        Status.INTERRUPTED,
        "CANCELLED, job 7_1",
    ),
    "cancelled early": (None, None, SlurmJob("CANCELLED"), Status.FAILED, "CANCELLED, job 7_1"),
    "finished": (Status.FINISHED, None, SlurmJob("COMPLETED"), Status.FINISHED, ""),
}


def run_of(path: Path, status: str | None) -> None:
    SlurmRecord("7_1", str(path / "7_1_0_log.out"), starts_it=True).write(path)
    if status is not None:
        state = State(status, "id", "digits", "mlp", "decay", 0, epochs=10, steps=100, epoch=5)
        state.write(RunFolder(path).state)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_its_word(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, queued, ended, status, words = STAGES[stage]
    run_of(tmp_path / "run", state)

    def queue(jobs: Collection[str]) -> dict[str, SlurmJob]:
        assert jobs == {"7_1"}
        return {} if queued is None else {"7_1": queued}

    monkeypatch.setattr(slurm_status, "queued_jobs", queue)
    monkeypatch.setattr(
        slurm_status, "ended_jobs", lambda jobs: {"7_1": ended} if ended and jobs else {}
    )
    (run,) = slurm_status.add_slurm_status(list_runs(tmp_path))
    assert run.status == status
    assert words in run.details


def test_accounts_that_are_behind_give_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say for a while that a job runs which is gone from the queue."""
    run_of(tmp_path / "run", Status.RUNNING)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for program, answer in {"squeue": "", "sacct": "7_1|${STATE}|n2\\n7_2|FAILED|n2"}.items():
        (tmp_path / program).write_text(f'#!/bin/sh\nprintf "{answer}"\n')
        (tmp_path / program).chmod(0o755)
    reasons = {}
    for state in ("RUNNING", "COMPLETING", "PENDING", "OUT_OF_MEMORY"):
        monkeypatch.setenv("STATE", state)
        (run,) = slurm_status.add_slurm_status(list_runs(tmp_path / "run"))
        assert run.status == Status.FAILED
        reasons[state] = run.reason
    gone = "no longer in SLURM's queue"
    assert list(reasons.values()) == [gone, gone, gone, "OUT_OF_MEMORY"]


def test_jobs_of_hidden_partitions_and_other_clusters_are_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where squeue is not told --all it leaves out the first; sacct is told the second only so."""
    shown = {
        "squeue": '[ "$1 $SLURM_CLUSTERS" = "--all b" ] && echo "7_1|RUNNING|None|n2|N/A"',
        "sacct": '[[ " $* " = *" --clusters=b "* ]] && echo "7_1|TIMEOUT|n2"',
    }
    for program, line in shown.items():
        (tmp_path / program).write_text(f"#!/bin/bash\n{line} || :\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CLUSTERS", "b")
    assert slurm_status.queued_jobs({"7_1"}) == {"7_1": SlurmJob("RUNNING", "", "n2")}
    assert slurm_status.ended_jobs({"7_1"}) == {"7_1": SlurmJob("TIMEOUT", "", "n2")}


def test_without_slurm_the_folders_tell_what_they_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(tmp_path / "waits", None)
    run_of(tmp_path / "stopped", Status.INTERRUPTED)
    monkeypatch.setenv("PATH", "")
    main(["status", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "SLURM does not respond" in printed
    assert Status.INTERRUPTED in printed
    assert slurm_status.add_slurm_status(list_runs(tmp_path))[1].status == Status.SUBMITTED


def test_logs_shows_the_job_and_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path, Status.RUNNING)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match=r"no output was saved"):
        output_files(tmp_path)
    (tmp_path / "7_1_0_log.out").write_text("of the job\n")
    main(["logs", str(tmp_path)])
    assert capsys.readouterr().out == "of the job\n"
    (tmp_path / "output.log").write_text("of the run\n")
    main(["logs", str(tmp_path)])
    assert "of the job\n==> " in capsys.readouterr().out
    for name in ("7_1_10_log.out", "7_1_2_log.out", "7_1_0_log.err", "7_10_0_log.out"):
        (tmp_path / name).write_text(f"{name}\n")
    names = [path.name.removeprefix("7_1_") for path in output_files(tmp_path)]
    assert names == ["0_log.err", "0_log.out", "2_log.out", "10_log.out", "output.log"]
    with pytest.raises(SystemExit):
        main(["logs", str(tmp_path / "nowhere")])
    assert "is not a run folder" in capsys.readouterr().err


def test_a_run_in_a_plain_job_notes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_current_job(tmp_path)
    assert read_slurm_record(tmp_path) is None
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    record_current_job(tmp_path)
    first = read_slurm_record(tmp_path)
    assert first is not None
    assert (first.job, first.starts_it) == ("12", False)
    assert time.time() - first.submitted < 60
    record_current_job(tmp_path)
    assert read_slurm_record(tmp_path) == first
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "10")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("ACCELERANDO_ARRAY", "yes")
    record_current_job(tmp_path)
    second = read_slurm_record(tmp_path)
    assert second is not None
    assert (second.job, second.starts_it) == ("10_3", True)
    (tmp_path / "slurm.json").write_text("")  # damaged: that does not keep a requeued job from it
    record_current_job(tmp_path)
    third = read_slurm_record(tmp_path)
    assert third is not None
    assert third.job == "10_3"
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name)
    record_current_job(tmp_path)  # it is no job's any more
    assert read_slurm_record(tmp_path) is None


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    (tmp_path / "slurm.json").write_text("{")
    with pytest.raises(UsageError, match=r"slurm\.json is corrupt"):
        read_slurm_record(tmp_path)
    (run,) = slurm_status.add_slurm_status(list_runs(tmp_path))
    assert run.status == Status.UNREADABLE
