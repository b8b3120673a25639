"""Which runs are submitted, and how long a sweep is waited for; SLURM's answers are simulated."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from accelerando.launch import slurm_status, submission
from accelerando.launch.pool import Job
from accelerando.launch.slurm_status import SlurmJob
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.listing import RunStatus, run_status
from accelerando.runs.slurm_record import SlurmRecord


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> dict[str, SlurmJob]:
    """The jobs in SLURM's queue, which tests may change."""
    jobs: dict[str, SlurmJob] = {}

    def queued_jobs(wanted: Collection[str]) -> dict[str, SlurmJob]:
        return {job: jobs[job] for job in wanted if job in jobs}

    for module in (slurm_status, submission):
        monkeypatch.setattr(module, "queued_jobs", queued_jobs)
    monkeypatch.setattr(slurm_status, "ended_jobs", lambda _: {})
    return jobs


def submitted_run(path: Path, status: Status, *, job_starts_run: bool) -> Job:
    SlurmRecord("7", "", job_starts_run=job_starts_run).write(path)
    state = State(status, "id", "digits", "mlp", "decay", 0, epochs=10, steps=100, epoch=5)
    state.write(RunFolder(path).state)
    return Job(path.name, path, partial(print))


@pytest.mark.parametrize(
    ("status", "job_starts_run", "is_queued"),
    [
        (Status.INTERRUPTED, True, True),
        (Status.INTERRUPTED, False, False),  # stopped inside an interactive job, which continues
        (Status.RUNNING, False, True),
    ],
)
def test_run_is_not_submitted_if_its_job_will_start_it(
    status: Status,
    job_starts_run: bool,
    is_queued: bool,
    queue: dict[str, SlurmJob],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = submitted_run(tmp_path / "run", status, job_starts_run=job_starts_run)
    monkeypatch.setattr(
        submission, "run_status", lambda path: RunStatus(path, status, RunFolder(path).read_state())
    )
    queue["7"] = SlurmJob("RUNNING", "", "n1", 1.0)
    remaining = submission._not_queued([job], Console(quiet=True))
    assert remaining == ([] if is_queued else [job])


def test_run_that_is_about_to_be_requeued_is_waited_for(
    queue: dict[str, SlurmJob], tmp_path: Path
) -> None:
    """Uploading to W&B may take a while between saving the run and requeueing its job."""
    job = submitted_run(tmp_path / "run", Status.INTERRUPTED, job_starts_run=True)

    def may_continue() -> bool:
        (run,) = slurm_status.add_slurm_status([run_status(job.folder)])
        return submission._may_continue(run)

    for state in ("RUNNING", "COMPLETING", "PENDING"):
        queue["7"] = SlurmJob(state, "", "n1", 1.0)
        assert may_continue()
    del queue["7"]
    assert not may_continue()
