"""List the runs below a folder and determine their status from their files alone."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from accelerando.checks import UsageError
from accelerando.runs.folder import STATE_FILE, RunFolder, State, Status
from accelerando.runs.run_lock import TIMEOUT_SECONDS, current_lock
from accelerando.runs.slurm_record import SLURM_FILE

CLOCK_SKEW_SECONDS = 60.0
"""Largest difference assumed between the clocks of this machine and of a file server."""


@dataclass(frozen=True)
class RunStatus:
    """The current status of a run.

    Args:
        path: the run folder.
        status: from the run's files, and from SLURM if it was queried.
        state: from ``state.json``; None if the run was not started or the file is unreadable.
        job: SLURM job id, if SLURM was queried.
        reason: why the job is waiting or gone, from SLURM, or why the files are unreadable.
        job_active: whether the job of an incomplete run is waiting or running.
    """

    path: Path
    status: Status
    state: State | None
    job: str = ""
    reason: str = ""
    job_active: bool = False

    @property
    def details(self) -> str:
        """Message, reason and job id in one phrase."""
        message = "" if self.state is None else self.state.message
        job = f"job {self.job}" if self.job else ""
        return ", ".join(filter(None, [message, self.reason, job]))

    @property
    def epochs_per_hour(self) -> float | None:
        """Mean over the training time so far."""
        if self.state is None or not self.state.seconds or not self.state.progress:
            return None
        return self.state.progress / self.state.seconds * 3600

    @property
    def seconds_left(self) -> float | None:
        """Remaining time of a running run at its mean speed so far."""
        if self.state is None or self.status != Status.RUNNING or not self.epochs_per_hour:
            return None
        return (self.state.epochs - self.state.progress) / self.epochs_per_hour * 3600


def list_runs(folder: Path) -> list[RunStatus]:
    """Return the status of every run at or below ``folder``, sorted by path.

    Raises:
        UsageError: the folder does not exist.
    """
    return [run_status(path) for path in run_folders(folder, STATE_FILE, SLURM_FILE)]


def run_folders(folder: Path, *names: str) -> list[Path]:
    """Return the sorted folders at or below ``folder`` that contain a file of one of these names.

    Raises:
        UsageError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: pass one that contains runs, such as runs/")
    paths = []
    for path, subfolders, files in os.walk(folder):
        if not set(names).isdisjoint(files):
            subfolders.clear()  # runs are not nested, but W&B puts many files into them
            paths.append(Path(path))
    return sorted(paths)


def run_status(path: Path) -> RunStatus:
    """Return the status of the run in a folder."""
    try:
        state = RunFolder(path).read_state()
        lost = state is not None and state.status == Status.RUNNING and not _is_alive(path)
    except UsageError:
        return RunStatus(path, Status.UNREADABLE, None)
    except OSError as error:  # perhaps of another user's run; still list the others
        return RunStatus(path, Status.UNREADABLE, None, reason=str(error.strerror))
    if state is None:
        return RunStatus(path, Status.LOST, None)  # unless SLURM knows that it is pending
    return RunStatus(path, Status.LOST if lost else state.status, state)


def _is_alive(path: Path) -> bool:
    """Whether a process holds the lock of a run."""
    lock = current_lock(path)
    if lock is None:
        return False
    is_dead = lock.owner.is_dead()
    if is_dead is not None:
        return not is_dead
    heartbeat = lock.last_heartbeat()
    return heartbeat is not None and time.time() - heartbeat < CLOCK_SKEW_SECONDS + TIMEOUT_SECONDS
