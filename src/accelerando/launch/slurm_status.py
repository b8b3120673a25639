"""Job states as SLURM reports them, and the status of runs that follows from them.

Job ids are strings as SLURM prints them: ``123``, or ``123_4`` for a task of an array.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from accelerando.checks import UsageError
from accelerando.runs.folder import Status
from accelerando.runs.listing import RunStatus, run_status
from accelerando.runs.slurm_record import read_slurm_record

NOT_RESPONDING = "SLURM does not respond"

WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED")
ACTIVE = ("RUNNING", "CONFIGURING", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING", "STOPPED")
"""SLURM's states of jobs that are in its queue: before a start, and started."""
TIMEOUT = 20.0
"""Seconds after which a SLURM command counts as failed."""


@dataclass(frozen=True)
class SlurmJob:
    """A job as SLURM reports it.

    Args:
        state: SLURM's name of the state, such as PENDING, RUNNING, TIMEOUT or OUT_OF_MEMORY.
        reason: why the job waits, or "".
        nodes: the nodes that the job runs or ran on.
        started: start time in seconds since 1970, or 0 if the job has not started.
    """

    state: str
    reason: str = ""
    nodes: str = ""
    started: float = 0.0


def add_slurm_status(runs: Sequence[RunStatus]) -> list[RunStatus]:
    """Add the SLURM job and its state to the runs that were submitted.

    The run's own files take precedence; SLURM adds whether the job is waiting, and why a run ended
    if the run could not record the reason itself.
    """
    runs = [_with_job(run) for run in runs]
    jobs = {run.job for run in runs if run.job and not run.status.is_final}
    if not jobs:
        return runs
    queued = queued_jobs(jobs)
    ended = ended_jobs(jobs - (queued or {}).keys())
    return [
        _with_slurm_state(run, queued, ended.get(run.job))
        if run.job and not run.status.is_final
        else run
        for run in runs
    ]


def _with_job(run: RunStatus) -> RunStatus:
    try:
        record = read_slurm_record(run.path)
    except (UsageError, OSError) as error:
        return replace(run, status=Status.UNREADABLE, reason=str(error))
    return run if record is None else replace(run, job=record.job)


def _with_slurm_state(
    run: RunStatus, queued: dict[str, SlurmJob] | None, ended: SlurmJob | None
) -> RunStatus:
    if queued is None:
        status = Status.SUBMITTED if run.state is None else run.status
        return replace(
            run, status=status, reason="" if run.status == Status.RUNNING else NOT_RESPONDING
        )
    job = queued.get(run.job)
    run = replace(run, job_active=job is not None)
    if job is not None and job.state in WAITING:
        status = Status.PENDING if run.state is None else Status.REQUEUED
        return replace(run, status=status, reason=job.reason)
    if run.status == Status.RUNNING:
        return run
    if job is not None:
        # the recorded state may be from an earlier start of the job, or from this one while other
        # runs of the same job continue
        started = run.state is not None and run.state.updated >= job.started
        status = run.status if started else Status.STARTING
        return replace(run, status=status, reason=f"on {job.nodes}")
    latest = run_status(run.path)  # the run may have ended since its files were read
    if latest.status.is_final:
        return replace(latest, job=run.job)
    reason = "no longer in SLURM's queue" if ended is None else ended.state
    status = Status.FAILED if run.status == Status.LOST else run.status
    return replace(run, status=status, reason=reason)


def queued_jobs(jobs: Collection[str]) -> dict[str, SlurmJob] | None:
    """Return those of ``jobs`` that wait or run, or None if SLURM does not respond."""
    # list everything and filter here: squeue fails if asked for a job that it has forgotten, and
    # without --all it omits jobs in hidden partitions, even the user's own
    lines = _query("squeue", "--all", "--noheader", "--array", "--format=%i|%T|%r|%N|%S")
    if lines is None:
        return None
    queued = {}
    for line in lines:
        job, state, reason, nodes, start = (*line.split("|"), *[""] * 4)[:5]
        if job in jobs and state in (*WAITING, *ACTIVE):
            reason = "" if reason == "None" else reason
            queued[job] = SlurmJob(state, reason, nodes, _timestamp(start))
    return queued


def ended_jobs(jobs: Collection[str]) -> dict[str, SlurmJob]:
    """Return those of ``jobs`` that have ended; empty if SLURM keeps no accounting."""
    if not jobs:
        return {}
    arrays = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={arrays}"]
    if cluster := os.environ.get("SLURM_CLUSTERS"):  # sacct alone ignores this variable
        command.append(f"--clusters={cluster}")
    accounted = {}
    for line in _query(*command, "--format=JobID,State,NodeList") or []:
        job, state, nodes = (*line.split("|"), "", "")[:3]
        if job in jobs:
            # "CANCELLED by 1000" is one state; of the lines of a requeued job the last counts
            accounted[job] = SlurmJob(state.split()[0], nodes=nodes)
    # accounting lags behind the queue: it may report RUNNING for a job that has left the queue
    return {k: job for k, job in accounted.items() if job.state not in (*WAITING, *ACTIVE)}


def list_partitions() -> list[str] | None:
    """Return the names of the cluster's partitions, or None if SLURM does not respond."""
    lines = _query("sinfo", "--noheader", "--all", "--format=%R")
    return None if lines is None else sorted(set(lines))


def has_remote_nodes() -> bool:
    """Return whether the cluster has nodes other than this one; False if SLURM does not respond."""
    host = platform.node()
    local = {host, host.partition(".")[0], "localhost", "127.0.0.1"}
    for line in _query("scontrol", "--all", "-o", "show", "nodes") or []:
        node = dict(field.split("=", 1) for field in line.split() if "=" in field)
        if not local & {node.get("NodeAddr"), node.get("NodeHostName")}:
            return True
    return False


def max_array_size() -> int:
    """Return the largest number of tasks that a job array may have."""
    for line in _query("scontrol", "show", "config") or []:
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize":
            return int(value) - 1
    return 1000  # SLURM's default


def _query(*command: str) -> list[str] | None:
    """Return the lines that a SLURM command prints, or None if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    # these variables filter or reformat the output; SLURM_CLUSTERS stays, so that the cluster that
    # sbatch submits to is the one that is queried
    formats = ("SQUEUE_", "SINFO_", "SACCT_", "SLURM_TIME_FORMAT")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(formats)}
    try:
        result = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=TIMEOUT, env=environment
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return [line.strip() for line in result.stdout.splitlines() if line.strip()]


def _timestamp(date: str) -> float:
    try:
        return datetime.fromisoformat(date).timestamp()
    except ValueError:  # N/A
        return 0.0
