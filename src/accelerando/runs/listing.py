"""What became of every run below a folder, read from its files alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from accelerando.checks import UsageError
from accelerando.runs.folder import RUNNING, RunFolder, State
from accelerando.runs.run_lock import PATIENCE, current_lock, owner_dead
from accelerando.runs.slurm_record import SLURM_FILE

CLOCKS_APART = 60.0
"""Seconds that the clocks of this machine and of a file server may differ by."""
STATE, RECORD = "state.json", "record.jsonl"
"""Files that tell a run's folder from others."""
LOST, UNREADABLE = "lost", "unreadable"
"""Said to be running, but its process is gone; and files that cannot be read."""


@dataclass(frozen=True)
class RunStatus:
    """One run as it stands now."""

    path: Path
    status: str
    """One of ``tracking.folder``'s, or one of the two above."""
    state: State | None
    job: str = ""
    """SLURM's id of the job that it was submitted as, where SLURM was asked."""
    reason: str = ""
    """Why it waits, or is gone, as SLURM says."""
    job_lives: bool = False
    """Whether that job waits or runs: of a run that has not ended."""

    @property
    def words(self) -> str:
        """A few words on what became of it."""
        message = "" if self.state is None else self.state.message
        of_job = f"job {self.job}" if self.job else ""
        return ", ".join(filter(None, [message, self.reason, of_job]))

    @property
    def rate(self) -> float | None:
        """Epochs per hour, over the time spent so far."""
        if self.state is None or not self.state.seconds or not self.state.progress:
            return None
        return self.state.progress / self.state.seconds * 3600

    @property
    def left(self) -> float | None:
        """Seconds that a running run will need, if an epoch goes on taking what it took."""
        if self.state is None or self.status != RUNNING or not self.rate:
            return None
        return (self.state.epochs - self.state.progress) / self.rate * 3600


def list_runs(folder: Path) -> list[RunStatus]:
    """Every run at or below ``folder``, in the order of their paths.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give one that holds runs, such as runs/")
    return [run_status(path) for path in sorted(run_folders(folder, STATE, SLURM_FILE))]


def run_folders(folder: Path, *marks: str) -> Iterator[Path]:
    """Folders at or below ``folder`` that hold a file of one of the names ``marks``."""
    for path, folders, files in os.walk(folder):
        if not set(marks).isdisjoint(files):
            folders.clear()  # a run holds no other, but many files of W&B's
            yield Path(path)


def run_status(path: Path) -> RunStatus:
    """The run in one folder."""
    try:
        state = RunFolder(path).read_state()
        alive = state is None or state.status != RUNNING or _alive(path)
    except UsageError:
        return RunStatus(path, UNREADABLE, None)
    except OSError as error:  # another user's, perhaps: the others are listed all the same
        return RunStatus(path, UNREADABLE, None, reason=str(error.strerror))
    if state is None:
        return RunStatus(path, LOST, None)  # or submitted: SLURM knows
    return RunStatus(path, state.status if alive else LOST, state)


def _alive(path: Path) -> bool:
    claim = current_lock(path)
    if claim is None:
        return False
    judged = owner_dead(claim)
    if judged is None:
        beat = claim.beat()
        return beat is not None and time.time() - beat < CLOCKS_APART + PATIENCE
    return not judged
