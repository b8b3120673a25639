"""A sweep on a cluster: check every run, submit those that are to be done, and go."""

from __future__ import annotations

import io
import shlex
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from accelerando.checks import UsageError
from accelerando.interruption import SignalHandler, signals_blocked
from accelerando.launch.array_task import ArrayTask
from accelerando.launch.cluster import check_cluster
from accelerando.launch.environment import sbatch_environment
from accelerando.launch.parameters import parameters
from accelerando.launch.planning import (
    PlannedRun,
    check_runs,
    group_into_jobs,
    plan_notes,
    unfinished_runs,
)
from accelerando.launch.pool import Job
from accelerando.launch.slurm_queue import max_array_size, queued_jobs
from accelerando.launch.slurm_status import SILENT, add_slurm_status
from accelerando.launch.sweep import conclude, lowest_norms
from accelerando.runs.folder import Status
from accelerando.runs.listing import RunStatus, run_status
from accelerando.runs.slurm_record import SlurmRecord, read_slurm_record
from accelerando.terminal import echo, make_console

POLL = 10.0
"""Seconds between two looks at the queue while waiting for jobs."""
Some = TypeVar("Some")


def submit_sweep(runs: Sequence[PlannedRun], settings: dict[str, Any]) -> list[float | None]:
    """Submit what has not ended and is not in the queue, as job arrays.

    Args:
        runs: the runs of the sweep; of two that are the same run one is submitted.
        settings: those of ``hydra.launcher``.

    Returns:
        Where the sweep was waited for, the minimum full gradient norm of each run, in order; else
        nothing.

    Raises:
        UsageError: a setting is out of range, or the cluster refuses; nothing was submitted.
        SystemExit: the sweep was waited for, and a run did not end; it was said.
    """
    console = make_console()
    configs = [run.settings for run in runs]
    notes = plan_notes(runs)
    check_cluster(configs, settings)
    jobs = group_into_jobs(runs)
    planned = {job.folder: run for job, run in zip(jobs, runs, strict=True)}
    unique = list({job.folder: job for job in jobs}.values())
    todo = _not_in_queue(unfinished_runs(unique, console), console)
    for note in notes:
        console.print(f"note: {note}")
    if todo:
        with console.status("checking models and data"):
            check_runs(configs, devices=False)
        _submit(todo, planned, settings)
        console.print(f"status   accelerando status {shlex.quote(configs[0].root)}")
    if not settings["wait"]:
        return []
    _wait(unique)
    ended = add_slurm_status([run_status(job.folder) for job in unique])
    outcomes = [(job, run.status, run.details) for job, run in zip(unique, ended, strict=True)]
    conclude(outcomes, console, root=configs[0].root)
    return lowest_norms(jobs)


def _not_in_queue(jobs: Sequence[Job], console: Console) -> list[Job]:
    """Those that no earlier call has submitted, or that wait and run no more."""
    known = {job.folder: read_slurm_record(job.folder) for job in jobs}
    queued = queued_jobs({word.job for word in known.values() if word is not None})
    if queued is None and any(known.values()):
        raise UsageError(
            "some of these runs were submitted before, and squeue does not answer whether they "
            "still wait: nothing was submitted, try again later"
        )

    def waits(job: Job) -> bool:
        word = known[job.folder]
        if word is None or word.job not in (queued or {}):
            return False
        # one that ran in a job of somebody's, such as an interactive one, is over with the run
        return word.starts_it or run_status(job.folder).status == Status.RUNNING

    left = [job for job in jobs if not waits(job)]
    if len(left) < len(jobs):
        console.print(f"{len(jobs) - len(left)} of {len(jobs)} are in SLURM's queue already")
    return left


def _submit(todo: Sequence[Job], planned: dict[Path, PlannedRun], settings: dict[str, Any]) -> None:
    """Submit arrays, each of runs on as many processes, and leave word in the runs' folders."""
    hardware = {job.folder: planned[job.folder].settings.hardware for job in todo}
    largest, before = max_array_size(), list[str]()
    for processes in sorted({part.processes for part in hardware.values()}):
        jobs = [job for job in todo if hardware[job.folder].processes == processes]
        tasks = [ArrayTask(part) for part in _parts(jobs, settings["runs_per_job"])]
        threads = max(hardware[job.folder].threads for job in jobs)
        for array in _parts(tasks, largest):
            try:
                # a job that was submitted without leaving word would be submitted again; Ctrl-C is
                # also sent to sbatch
                with SignalHandler() as stop, signals_blocked():
                    job = _submit_array(array, parameters(settings, processes, threads), settings)
            except UsageError as error:
                if not before:
                    raise
                raise UsageError(f"{error}; submitted before that: {' '.join(before)}") from error
            before.append(job)
            count = sum(len(task.jobs) for task in array)
            in_tasks = (
                f" in {len(array)} task{'s' * (len(array) > 1)}" if len(array) < count else ""
            )
            echo(f"submitted job {job}: {count} run{'s' * (count > 1)}{in_tasks}")
            if stop.received:
                raise KeyboardInterrupt


def _submit_array(
    tasks: Sequence[ArrayTask], told: dict[str, Any], settings: dict[str, Any]
) -> str:
    from submitit import AutoExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        executor = AutoExecutor(
            settings["submitit_folder"],
            cluster="slurm",
            slurm_max_num_timeout=settings["max_num_timeout"],
        )
        executor.update_parameters(**told)
        # sbatch's words are in the error, and need not be said twice
        with sbatch_environment(told), redirect_stderr(io.StringIO()), executor.batch():
            made = [executor.submit(task) for task in tasks]
    except (FailedJobError, FailedSubmissionError, ValueError, AssertionError) as error:
        raise UsageError(f"SLURM refuses the job: {' '.join(str(error).split())}") from error
    array = str(made[0].job_id.partition("_")[0])
    for job, task in zip(made, tasks, strict=True):
        for run in task.jobs:
            try:
                SlurmRecord(job.job_id, str(job.paths.stdout), starts_it=True).write(run.folder)
            except OSError as error:
                raise UsageError(
                    f"job {array} was submitted, but word of it cannot be left in {run.folder} "
                    f"({error.strerror}): scancel {array}, make room, and give the command again"
                ) from error
    return array


def _parts(values: Sequence[Some], size: int) -> list[Sequence[Some]]:
    return [values[first : first + size] for first in range(0, len(values), size)]


def _wait(jobs: Sequence[Job]) -> None:
    """Return when no run waits or runs any more, whatever became of it."""
    while any(map(_going, add_slurm_status([run_status(job.folder) for job in jobs]))):
        time.sleep(POLL)


def _going(run: RunStatus) -> bool:
    # of a run that is saved the job may have still to put itself back into the queue
    return run.status == Status.RUNNING or run.job_active or run.reason == SILENT
