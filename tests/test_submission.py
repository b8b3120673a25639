"""What is submitted, what is waited for, and what ends a submission; SLURM's answers are given."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.launch import planning, slurm_status, submission
from accelerando.launch.pool import Job
from accelerando.launch.slurm_queue import SlurmJob
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.listing import RunStatus, run_status
from accelerando.runs.slurm_record import SlurmRecord


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> dict[str, SlurmJob]:
    """What SLURM's queue holds."""
    jobs: dict[str, SlurmJob] = {}

    def asked(wanted: Collection[str]) -> dict[str, SlurmJob]:
        return {job: jobs[job] for job in wanted if job in jobs}

    for module in (slurm_status, submission):
        monkeypatch.setattr(module, "queued_jobs", asked)
    monkeypatch.setattr(slurm_status, "accounted_jobs", lambda _: {})
    return jobs


def run_of(path: Path, status: str, *, starts_it: bool) -> Job:
    SlurmRecord("7", "", starts_it=starts_it).write(path)
    state = State(status, "id", "digits", "mlp", "decay", 0, epochs=10, steps=100, epoch=5)
    state.write(RunFolder(path).state)
    return Job(path.name, path, partial(print))


@pytest.mark.parametrize(
    ("status", "starts_it", "waits"),
    [
        (Status.INTERRUPTED, True, True),
        (Status.INTERRUPTED, False, False),
        (Status.RUNNING, False, True),
    ],
)
def test_a_run_waits_where_its_job_will_start_it(
    status: str,
    starts_it: bool,
    waits: bool,
    queue: dict[str, SlurmJob],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not one that was stopped inside an interactive job, which lasts."""
    job = run_of(tmp_path / "run", status, starts_it=starts_it)
    monkeypatch.setattr(
        submission, "run_status", lambda path: RunStatus(path, status, RunFolder(path).read_state())
    )
    queue["7"] = SlurmJob("RUNNING", "", "n1", 1.0)
    left = submission._not_in_queue([job], Console(quiet=True))
    assert left == ([] if waits else [job])


def test_a_run_that_is_about_to_be_put_back_is_waited_for(
    queue: dict[str, SlurmJob], tmp_path: Path
) -> None:
    """Between its last word and the requeue of its job, which may take W&B's time."""
    job = run_of(tmp_path / "run", Status.INTERRUPTED, starts_it=True)

    def going() -> bool:
        (run,) = slurm_status.add_slurm_status([run_status(job.folder)])
        return submission._going(run)

    for state in ("RUNNING", "COMPLETING", "PENDING"):
        queue["7"] = SlurmJob(state, "", "n1", 1.0)
        assert going()
    del queue["7"]
    assert not going()


def kill_it(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_try_out_that_is_killed_says_so(
    settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As login nodes do with what takes much memory; its log is empty."""
    monkeypatch.setattr(planning, "_in_process", kill_it)
    with pytest.raises(UsageError, match="ended by SIGKILL, perhaps for want of memory"):
        planning.check_runs([settings()], devices=False)
