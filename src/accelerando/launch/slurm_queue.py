"""What SLURM knows of jobs: those in its queue, and, where it keeps accounts, those that are over.

Jobs are named as a user names them: 123, or 123_4 for a task of an array.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

WAITS = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED")
"""States of jobs that will run, but do not now."""
PATIENCE = 20.0
"""Seconds that SLURM's programs are given to answer."""


@dataclass(frozen=True)
class SlurmJob:
    """A job as SLURM sees it.

    Args:
        state: SLURM's word, such as PENDING, RUNNING, TIMEOUT, OUT_OF_MEMORY.
        reason: why it waits; "" where there is none.
        nodes: where it runs or ran.
        started: when it began, in seconds since 1970; 0 where it did not.
    """

    state: str
    reason: str = ""
    nodes: str = ""
    started: float = 0.0


def queued_jobs(jobs: Collection[str]) -> dict[str, SlurmJob] | None:
    """Those of ``jobs`` that wait or run; None where SLURM does not answer."""
    # of all jobs: asked for one that it has forgotten, squeue answers with an error; and of all
    # partitions: of a hidden one it would not even show the user's own
    lines = _ask(["squeue", "--all", "--noheader", "--array", "--format=%i|%T|%r|%N|%S"])
    if lines is None:
        return None
    found = {}
    for line in lines:
        job, state, reason, nodes, start = (*line.split("|"), *[""] * 4)[:5]
        if job in jobs and state in (*WAITS, *_RUNS):
            found[job] = SlurmJob(state, "" if reason == "None" else reason, nodes, _seconds(start))
    return found


_RUNS = ("RUNNING", "CONFIGURING", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING", "STOPPED")


def accounted_jobs(jobs: Collection[str]) -> dict[str, SlurmJob]:
    """Those of ``jobs`` that are over by SLURM's accounts; none where it keeps no accounts."""
    found = {}
    if jobs:
        whole = ",".join(sorted({job.partition("_")[0] for job in jobs}))
        command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={whole}"]
        if cluster := os.environ.get("SLURM_CLUSTERS"):  # of SLURM's programs this one ignores it
            command.append(f"--clusters={cluster}")
        for line in _ask([*command, "--format=JobID,State,NodeList"]) or []:
            job, words, nodes = (*line.split("|"), "", "")[:3]
            if job in jobs:
                # "CANCELLED by 1000"; and of several lines on a requeued job the last counts
                found[job] = SlurmJob(words.split()[0], nodes=nodes)
    # accounts are written later than the queue: some still say RUNNING of a job that is gone
    return {job: last for job, last in found.items() if last.state not in (*WAITS, *_RUNS)}


def partitions() -> list[str] | None:
    """Names of the cluster's partitions; None where SLURM does not answer."""
    lines = _ask(["sinfo", "--noheader", "--all", "--format=%R"])
    return None if lines is None else sorted(set(lines))


def other_clusters() -> bool:
    """Whether the cluster has nodes on other machines than this; not where SLURM is silent."""
    here = platform.node()
    known = {here, here.partition(".")[0], "localhost", "127.0.0.1"}
    for line in _ask(["scontrol", "--all", "-o", "show", "nodes"]) or []:
        node = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if not known & {node.get("NodeAddr"), node.get("NodeHostName")}:
            return True
    return False


def max_array_size() -> int:
    """How many tasks an array may have at most."""
    for line in _ask(["scontrol", "show", "config"]) or []:
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize":
            return int(value) - 1
    return 1000  # SLURM's default


def _ask(command: list[str]) -> list[str] | None:
    """The lines that a program of SLURM's prints; None where it is not here or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        answer = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=_environment(),
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return list(_lines(answer.stdout))


def _environment() -> dict[str, str]:
    """Without what makes SLURM's programs tell but a part, or in another form.

    SLURM_CLUSTERS stays: the cluster that sbatch submits to is the one to ask.
    """
    ours = ("SQUEUE_", "SINFO_", "SACCT_", "SLURM_TIME_FORMAT")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _seconds(moment: str) -> float:
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:  # N/A
        return 0.0


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())
