"""A sweep on a cluster: check every run, submit those that are to be done, and go."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from accelerando.checks import UsageError
from accelerando.interruption import Interruption, apart
from accelerando.launch.array_task import ArrayTask
from accelerando.launch.cluster import check_cluster, layout
from accelerando.launch.joined import (
    PENDING,
    REQUEUED,
    SILENT,
    STARTING,
    SUBMITTED,
    with_jobs,
)
from accelerando.launch.pool import Job
from accelerando.launch.queue import in_queue, largest_array
from accelerando.launch.sweep import conclude, lowest_norms
from accelerando.launch.todo import Planned, jobs_of, notes_of, try_out, unfinished
from accelerando.tracking.folder import RUNNING
from accelerando.tracking.overview import seen
from accelerando.tracking.submitted import Submitted, submitted

POLL = 10.0
"""Seconds between two looks at the queue while waiting for jobs."""
OURS = ("runs_per_job", "wait", "submitit_folder", "max_num_timeout")
"""Settings of the launcher that are not sbatch's."""
SUBMITIT = (
    "name",
    "timeout_min",
    "mem_gb",
    "nodes",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "stderr_to_stdout",
)
"""Settings that submitit has for every kind of cluster."""
OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS")
"""Variables that say which cluster is meant, also inside of a job."""
Some = TypeVar("Some")


def submit_sweep(runs: Sequence[Planned], settings: dict[str, Any]) -> list[float | None]:
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
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    configs = [run.config for run in runs]
    notes = notes_of(runs)
    check_cluster(configs, settings)
    jobs = jobs_of(runs)
    planned = {job.folder: run for job, run in zip(jobs, runs, strict=True)}
    unique = list({job.folder: job for job in jobs}.values())
    todo = _not_in_queue(unfinished(unique, console), console)
    for note in notes:
        console.print(f"note: {note}")
    if todo:
        with console.status("checking models and data"):
            try_out(configs, devices=False)
        _submit(todo, planned, settings)
        console.print(f"status   accelerando status {configs[0].root}")
    if not settings["wait"]:
        return []
    _wait(unique)
    ended = with_jobs([seen(job.folder) for job in unique])
    outcomes = [(job, run.status, run.words) for job, run in zip(unique, ended, strict=True)]
    conclude(outcomes, console, root=configs[0].root)
    return lowest_norms(jobs)


def _not_in_queue(jobs: Sequence[Job], console: Console) -> list[Job]:
    """Those that no earlier call has submitted, or that wait and run no more."""
    known = {job.folder: submitted(job.folder) for job in jobs}
    queued = in_queue({word.job for word in known.values() if word is not None})
    if queued is None and any(known.values()):
        raise UsageError(
            "some of these runs were submitted before, and squeue does not answer whether they "
            "still wait: nothing was submitted, try again later"
        )
    left = [
        job for job in jobs if (word := known[job.folder]) is None or word.job not in (queued or {})
    ]
    if len(left) < len(jobs):
        console.print(f"{len(jobs) - len(left)} of {len(jobs)} are in SLURM's queue already")
    return left


def _submit(todo: Sequence[Job], planned: dict[Path, Planned], settings: dict[str, Any]) -> None:
    """Submit arrays, each of runs on as many processes, and leave word in the runs' folders."""
    hardware = {job.folder: planned[job.folder].config.hardware for job in todo}
    largest, before = largest_array(), list[str]()
    for processes in sorted({part.processes for part in hardware.values()}):
        jobs = [job for job in todo if hardware[job.folder].processes == processes]
        tasks = [ArrayTask(part) for part in _parts(jobs, settings["runs_per_job"])]
        threads = max(hardware[job.folder].threads for job in jobs)
        for array in _parts(tasks, largest):
            try:
                # a job that was submitted without leaving word would be submitted again; Ctrl-C is
                # also sent to sbatch
                with Interruption() as stop, apart():
                    job = _submit_array(array, _parameters(settings, processes, threads), settings)
            except UsageError as error:
                if not before:
                    raise
                raise UsageError(f"{error}; submitted before that: {' '.join(before)}") from error
            before.append(job)
            count = sum(len(task.jobs) for task in array)
            in_tasks = (
                f" in {len(array)} task{'s' * (len(array) > 1)}" if len(array) < count else ""
            )
            print(f"submitted job {job}: {count} run{'s' * (count > 1)}{in_tasks}", flush=True)
            if stop.received:
                raise KeyboardInterrupt


def _submit_array(
    tasks: Sequence[ArrayTask], parameters: dict[str, Any], settings: dict[str, Any]
) -> str:
    from submitit import AutoExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        executor = AutoExecutor(
            settings["submitit_folder"],
            cluster="slurm",
            slurm_max_num_timeout=settings["max_num_timeout"],
        )
        executor.update_parameters(**parameters)
        # sbatch's words are in the error, and need not be said twice
        with _outside(), redirect_stderr(io.StringIO()), executor.batch():
            made = [executor.submit(task) for task in tasks]
    except (FailedJobError, FailedSubmissionError, ValueError, AssertionError) as error:
        raise UsageError(f"SLURM refuses the job: {' '.join(str(error).split())}") from error
    for job, task in zip(made, tasks, strict=True):
        for run in task.jobs:
            Submitted(job.job_id, str(job.paths.stdout)).write(run.folder)
    return str(made[0].job_id.partition("_")[0])


@contextmanager
def _outside() -> Iterator[None]:
    """Without the words of a job that this command may run in: new jobs would take them for theirs.

    An array's numbers, or memory for each processor, which excludes memory for each node.
    """
    inside = "SLURM_JOB_ID" in os.environ
    words = {
        name: value
        for name, value in os.environ.items()
        if inside and name.startswith(("SLURM_", "SLURMD_", "SRUN_")) and name not in OF_THE_CLUSTER
    }
    for name in words:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(words)


def _parameters(settings: dict[str, Any], processes: int, threads: int) -> dict[str, Any]:
    """What submitit is told: its own settings by their names, SLURM's with a prefix."""
    nodes, per_node = layout(settings, processes)
    values = {key: value for key, value in settings.items() if key not in OURS}
    values |= {"nodes": nodes, "tasks_per_node": per_node}
    more = values["additional_parameters"] or {}
    more = {key.replace("_", "-"): value for key, value in more.items()}
    if "no-requeue" not in more:
        more = {"requeue": True} | more
    values["additional_parameters"] = more
    if values["cpus_per_task"] is None and values["cpus_per_gpu"] is None:
        values["cpus_per_task"] = threads * settings["runs_per_job"]
    # srun, which starts the tasks inside a job, is told again: sites give jobs no environment
    # (SBATCH_EXPORT=NONE), and since 22.05 it binds a task to one processor unless it is told
    cpus = more.get("cpus-per-task", values["cpus_per_task"])
    told = ["--export=ALL", *([f"--cpus-per-task={cpus}"] if cpus else [])]
    values["srun_args"] = [*told, *(values.get("srun_args") or [])]
    return {k if k in SUBMITIT else f"slurm_{k}": v for k, v in values.items()}


def _parts(values: Sequence[Some], size: int) -> list[Sequence[Some]]:
    return [values[first : first + size] for first in range(0, len(values), size)]


def _wait(jobs: Sequence[Job]) -> None:
    """Return when no run waits or runs any more, whatever became of it."""
    going = (SUBMITTED, PENDING, REQUEUED, STARTING, RUNNING)
    while any(
        run.status in going or run.reason == SILENT
        for run in with_jobs([seen(job.folder) for job in jobs])
    ):
        time.sleep(POLL)
