"""A sweep on a SLURM cluster: check all runs, submit those that need it, and return."""

from __future__ import annotations

import io
import shlex
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any, TypeVar

from rich.console import Console

from accelerando.checks import UsageError
from accelerando.interruption import SignalHandler, signals_blocked
from accelerando.launch.array_task import ArrayTask
from accelerando.launch.cluster_checks import check_cluster
from accelerando.launch.planning import PlannedRun, check_runs, print_notes, unfinished_jobs
from accelerando.launch.pool import Job
from accelerando.launch.sbatch import sbatch_environment, sbatch_parameters
from accelerando.launch.slurm_status import (
    NOT_RESPONDING,
    add_slurm_status,
    max_array_size,
    queued_jobs,
)
from accelerando.launch.sweep import minimum_norms, print_summary
from accelerando.launch.sweep_progress import JobOutcome
from accelerando.runs.folder import Status
from accelerando.runs.listing import RunStatus, run_status
from accelerando.runs.slurm_record import SlurmRecord, read_slurm_record
from accelerando.terminal import echo, make_console

QUEUE_POLL_INTERVAL = 10.0
"""Seconds between two queries of the queue while waiting for jobs."""
T = TypeVar("T")


def submit_sweep(runs: Sequence[PlannedRun], launcher: dict[str, Any]) -> list[float | None]:
    """Submit the runs that have not ended and are not in the queue, as job arrays.

    Duplicates are submitted once; ``launcher`` holds the settings of ``hydra.launcher``.

    Returns:
        With ``wait``, the minimum full gradient norm of each run, in order; otherwise nothing.

    Raises:
        UsageError: a setting is out of range, or SLURM rejects the job; nothing was submitted.
        SystemExit: with ``wait``, if a run did not complete; the summary was printed.
    """
    console = make_console()
    check_cluster(runs, launcher)
    root = runs[0].settings.root
    unique = {run.job.folder: run for run in runs}
    jobs = [run.job for run in unique.values()]
    todo = _not_queued(unfinished_jobs(jobs, console), console)
    print_notes(runs, console)
    if todo:
        with console.status("checking models and data"):
            check_runs(runs, devices=False)
        _submit([unique[job.folder] for job in todo], launcher)
        console.print(f"status   accelerando status {shlex.quote(root)}")
    if not launcher["wait"]:
        return []
    _wait(jobs)
    ended = add_slurm_status([run_status(job.folder) for job in jobs])
    outcomes = [
        (job, JobOutcome(run.status, run.details)) for job, run in zip(jobs, ended, strict=True)
    ]
    print_summary(outcomes, console, root=root)
    return minimum_norms(runs)


def _not_queued(jobs: Sequence[Job], console: Console) -> list[Job]:
    """Return the jobs that were not submitted earlier, or have left the queue since."""
    records = {job.folder: read_slurm_record(job.folder) for job in jobs}
    queued = queued_jobs({record.job for record in records.values() if record is not None})
    if queued is None and any(records.values()):
        raise UsageError(
            "some of these runs were submitted before, and squeue does not respond, so they may "
            "still be in the queue: nothing was submitted, try again later"
        )

    def is_queued(job: Job) -> bool:
        record = records[job.folder]
        if record is None or record.job not in (queued or {}):
            return False
        # a run that was started by hand inside a job, such as an interactive one, does not return
        # with that job
        return record.job_starts_run or run_status(job.folder).status == Status.RUNNING

    remaining = [job for job in jobs if not is_queued(job)]
    if len(remaining) < len(jobs):
        console.print(f"{len(jobs) - len(remaining)} of {len(jobs)} are already in SLURM's queue")
    return remaining


def _submit(runs: Sequence[PlannedRun], launcher: dict[str, Any]) -> None:
    """Submit job arrays, one or more for each number of processes, and record them."""
    largest, submitted = max_array_size(), list[str]()
    for processes in sorted({run.settings.hardware.processes for run in runs}):
        similar = [run for run in runs if run.settings.hardware.processes == processes]
        threads = max(run.settings.hardware.threads for run in similar)
        parameters = sbatch_parameters(launcher, processes, threads)
        jobs = [run.job for run in similar]
        tasks = [ArrayTask(group) for group in _split(jobs, launcher["runs_per_job"])]
        for array in _split(tasks, largest):
            try:
                # uninterrupted: a job that was submitted but not recorded would be submitted again.
                # Ctrl-C is blocked for sbatch too, which the terminal signals as well
                with SignalHandler() as signals, signals_blocked():
                    job_id = _submit_array(array, parameters, launcher)
            except UsageError as error:
                if not submitted:
                    raise
                raise UsageError(f"{error}; already submitted: {' '.join(submitted)}") from error
            submitted.append(job_id)
            count = sum(len(task.jobs) for task in array)
            in_tasks = (
                f" in {len(array)} task{'s' * (len(array) > 1)}" if len(array) < count else ""
            )
            echo(f"submitted job {job_id}: {count} run{'s' * (count > 1)}{in_tasks}")
            if signals.received:
                raise KeyboardInterrupt


def _submit_array(
    tasks: Sequence[ArrayTask], parameters: dict[str, Any], launcher: dict[str, Any]
) -> str:
    """Submit one job array, record it in the folders of its runs, and return its id."""
    from submitit import AutoExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        executor = AutoExecutor(
            launcher["submitit_folder"],
            cluster="slurm",
            slurm_max_num_timeout=launcher["max_num_timeout"],
        )
        executor.update_parameters(**parameters)
        # the exception contains what sbatch printed to stderr
        with sbatch_environment(parameters), redirect_stderr(io.StringIO()), executor.batch():
            submitted = [executor.submit(task) for task in tasks]
    except (FailedJobError, FailedSubmissionError, ValueError, AssertionError) as error:
        raise UsageError(f"SLURM rejected the job: {' '.join(str(error).split())}") from error
    array_id = str(submitted[0].job_id.partition("_")[0])
    for job, task in zip(submitted, tasks, strict=True):
        record = SlurmRecord(job.job_id, str(job.paths.stdout), job_starts_run=True)
        for run in task.jobs:
            try:
                record.write(run.folder)
            except OSError as error:
                raise UsageError(
                    f"job {array_id} was submitted, but could not be recorded in {run.folder} "
                    f"({error.strerror}): run scancel {array_id}, free disk space, and rerun"
                ) from error
    return array_id


def _split(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[first : first + size] for first in range(0, len(values), size)]


def _wait(jobs: Sequence[Job]) -> None:
    """Return when no run waits or runs any more."""
    while any(map(_may_continue, add_slurm_status([run_status(job.folder) for job in jobs]))):
        time.sleep(QUEUE_POLL_INTERVAL)


def _may_continue(run: RunStatus) -> bool:
    # a run that is saved may still be requeued by its job
    return run.status == Status.RUNNING or run.job_active or run.reason == NOT_RESPONDING
