"""Status of submitted runs, from their files and SLURM's answers, which are simulated here."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import pytest

from accelerando.commands import main
from accelerando.launch import slurm_status
from accelerando.launch.slurm_status import SlurmJob, add_slurm_status
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.listing import list_runs
from accelerando.runs.slurm_record import SlurmRecord


class Case(NamedTuple):
    """What state.json, squeue and sacct report, and the status that follows."""

    recorded: Status | None
    queued: SlurmJob | None
    ended: SlurmJob | None
    status: Status
    details: str = ""


ON_N2 = SlurmJob("RUNNING", "", "n2", started=1.0)
CASES = {
    "pending": Case(
        None, SlurmJob("PENDING", "Resources"), None, Status.PENDING, "Resources, job 7_1"
    ),
    "job started": Case(None, ON_N2, None, Status.STARTING, "on n2, job 7_1"),
    "failed, other runs continue": Case(Status.FAILED, ON_N2, None, Status.FAILED, "on n2"),
    "restarted": Case(
        Status.INTERRUPTED, SlurmJob("RUNNING", "", "n2", 9e9), None, Status.STARTING, "on n2"
    ),
    "completing": Case(Status.FINISHED, SlurmJob("COMPLETING"), None, Status.FINISHED),
    "requeued": Case(
        Status.INTERRUPTED, SlurmJob("PENDING", "BeginTime"), None, Status.REQUEUED, "BeginTime"
    ),
    "killed": Case(
        Status.RUNNING, None, SlurmJob("OUT_OF_MEMORY"), Status.FAILED, "OUT_OF_MEMORY, job 7_1"
    ),
    "lost": Case(Status.RUNNING, None, None, Status.FAILED, "no longer in SLURM's queue, job 7_1"),
    "cancelled": Case(
        Status.INTERRUPTED, None, SlurmJob("CANCELLED"), Status.INTERRUPTED, "CANCELLED, job 7_1"
    ),
    "cancelled before its start": Case(
        None, None, SlurmJob("CANCELLED"), Status.FAILED, "CANCELLED, job 7_1"
    ),
    "finished": Case(Status.FINISHED, None, SlurmJob("COMPLETED"), Status.FINISHED),
}


def submitted_run(path: Path, status: Status | None) -> None:
    SlurmRecord("7_1", "", job_starts_run=True).write(path)
    if status is not None:
        state = State(status, "id", "digits", "mlp", "decay", 0, epochs=10, steps=100, epoch=5)
        state.write(RunFolder(path).state)


def add_program(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a script on the path that replaces a SLURM command."""
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)
    if str(folder) not in os.environ["PATH"].split(":"):
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_status_of_a_submitted_run(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted_run(tmp_path / "run", case.recorded)

    def queued_jobs(jobs: Collection[str]) -> dict[str, SlurmJob]:
        assert jobs == {"7_1"}
        return {} if case.queued is None else {"7_1": case.queued}

    def ended_jobs(jobs: Collection[str]) -> dict[str, SlurmJob]:
        return {"7_1": case.ended} if case.ended and jobs else {}

    monkeypatch.setattr(slurm_status, "queued_jobs", queued_jobs)
    monkeypatch.setattr(slurm_status, "ended_jobs", ended_jobs)
    (run,) = add_slurm_status(list_runs(tmp_path))
    assert run.status == case.status
    assert case.details in run.details


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("RUNNING", "no longer in SLURM's queue"),
        ("COMPLETING", "no longer in SLURM's queue"),
        ("PENDING", "no longer in SLURM's queue"),
        ("OUT_OF_MEMORY", "OUT_OF_MEMORY"),
    ],
)
def test_outdated_accounting_is_ignored(
    state: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accounting may report for a while that a job runs which has left the queue."""
    submitted_run(tmp_path / "run", Status.RUNNING)
    add_program(tmp_path, "squeue", "#!/bin/sh\n", monkeypatch)
    lines = f"7_1|{state}|n2\\n7_2|FAILED|n2"
    add_program(tmp_path, "sacct", f'#!/bin/sh\nprintf "{lines}"\n', monkeypatch)
    (run,) = add_slurm_status(list_runs(tmp_path / "run"))
    assert (run.status, run.reason) == (Status.FAILED, reason)


def test_jobs_in_hidden_partitions_and_of_other_clusters_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --all squeue omits hidden partitions, and sacct ignores SLURM_CLUSTERS."""
    squeue = '[ "$1 $SLURM_CLUSTERS" = "--all b" ] && echo "7_1|RUNNING|None|n2|N/A"'
    sacct = '[[ " $* " = *" --clusters=b "* ]] && echo "7_1|TIMEOUT|n2"'
    for name, line in {"squeue": squeue, "sacct": sacct}.items():
        add_program(tmp_path, name, f"#!/bin/bash\n{line} || :\n", monkeypatch)
    monkeypatch.setenv("SLURM_CLUSTERS", "b")
    assert slurm_status.queued_jobs({"7_1"}) == {"7_1": SlurmJob("RUNNING", "", "n2")}
    assert slurm_status.ended_jobs({"7_1"}) == {"7_1": SlurmJob("TIMEOUT", "", "n2")}


def test_status_command_works_without_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submitted_run(tmp_path / "a", None)
    submitted_run(tmp_path / "b", Status.INTERRUPTED)
    monkeypatch.setenv("PATH", "")
    main(["status", str(tmp_path)])
    assert "SLURM does not respond" in capsys.readouterr().out
    statuses = [run.status for run in add_slurm_status(list_runs(tmp_path))]
    assert statuses == [Status.SUBMITTED, Status.INTERRUPTED]


def test_run_with_a_corrupt_slurm_record_is_listed(tmp_path: Path) -> None:
    (tmp_path / "slurm.json").write_text("{")
    (run,) = add_slurm_status(list_runs(tmp_path))
    assert run.status == Status.UNREADABLE
    assert "slurm.json is corrupt" in run.reason
