"""The SLURM job of a run, stored as ``slurm.json``: its id and its output file."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from accelerando.atomic_write import write_atomic
from accelerando.checks import UsageError

SLURM_FILE = "slurm.json"
ARRAY_VARIABLE = "ACCELERANDO_ARRAY"
"""Environment variable set by ``slurm/array.sbatch``, whose job starts the run."""

_KEYS = {"job_starts_run": "starts_it"}
"""Keys in the file that differ from the attribute: the names of an earlier version."""


@dataclass(frozen=True)
class SlurmRecord:
    """The SLURM job that a run belongs to.

    Args:
        job: job id; for an array with the task: 123_4.
        output: path of the job's standard output; empty if it is not a file.
        job_starts_run: whether the job starts the run, also after a requeue. False if a user
            started the run within a job, such as an interactive one.
        submitted: time of submission, in seconds since the epoch.
    """

    job: str
    output: str
    job_starts_run: bool
    submitted: float = field(default_factory=time.time)

    def write(self, folder: Path) -> None:
        """Write ``slurm.json`` to a run folder, which is created if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {_KEYS.get(name, name): value for name, value in asdict(self).items()}
        write_atomic(folder / SLURM_FILE, json.dumps(content, indent=1).encode())


def read_slurm_record(folder: Path) -> SlurmRecord | None:
    """Read ``slurm.json``. Return None if the run was not submitted.

    Raises:
        UsageError: the file is corrupt.
    """
    path = folder / SLURM_FILE
    try:
        content = json.loads(path.read_text())
        names = [part.name for part in fields(SlurmRecord)]
        return SlurmRecord(**{name: content[_KEYS.get(name, name)] for name in names})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is corrupt ({error}): repair it, or remove it") from error


def current_job() -> str | None:
    """Return the id of the SLURM job that this process runs in, or None outside SLURM."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def record_current_job(folder: Path) -> None:
    """Write the current SLURM job to ``slurm.json``; remove the file outside SLURM."""
    job = current_job()
    if job is None:
        (folder / SLURM_FILE).unlink(missing_ok=True)
        return
    with suppress(UsageError):  # a corrupt file is replaced
        record = read_slurm_record(folder)
        if record is not None and record.job == job:
            return
    SlurmRecord(job, _output_file(), job_starts_run=ARRAY_VARIABLE in os.environ).write(folder)


def _output_file() -> str:
    """Return the path of this process's standard output, or "" if it is not a file."""
    with suppress(OSError):
        path = Path("/proc/self/fd/1").readlink()
        return str(path) if path.is_file() else ""
    return ""
