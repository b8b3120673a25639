"""That a run was submitted to SLURM: as which job, and where the job's output is."""

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
ARRAY = "ACCELERANDO_ARRAY"
"""Set by ``slurm/array.sbatch``, whose job starts the run by itself."""


@dataclass(frozen=True)
class SlurmRecord:
    """A run's place in SLURM; ``slurm.json`` in its folder holds it.

    Args:
        job: SLURM's id of the job, of an array with the task: 123_4.
        output: the file that the job writes what it prints to.
        starts_it: whether the job starts the run by itself, also after it was requeued; not where
            the run was started in a job of somebody's, such as an interactive one.
        submitted: when, in seconds since 1970.
    """

    job: str
    output: str
    starts_it: bool
    submitted: float = field(default_factory=time.time)

    def write(self, folder: Path) -> None:
        """Leave word in a run's folder, made where it does not exist."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / SLURM_FILE, json.dumps(asdict(self), indent=1).encode())


def read_slurm_record(folder: Path) -> SlurmRecord | None:
    """What the folder says of it; None where the run was not submitted.

    Raises:
        UsageError: the file is damaged.
    """
    path = folder / SLURM_FILE
    try:
        content = json.loads(path.read_text())
        return SlurmRecord(**{part.name: content[part.name] for part in fields(SlurmRecord)})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is damaged ({error}): look at it, or remove it") from error


def this_job() -> str | None:
    """The SLURM job that the calling process is part of; None outside of SLURM."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def record_this_job(folder: Path) -> None:
    """Leave word in a run's folder of the job that works on it now; none outside of SLURM."""
    job = this_job()
    if job is None:
        (folder / SLURM_FILE).unlink(missing_ok=True)
        return
    with suppress(UsageError):  # a damaged one is replaced
        known = read_slurm_record(folder)
        if known is not None and known.job == job:
            return
    SlurmRecord(job, _output(), starts_it=ARRAY in os.environ).write(folder)


def _output() -> str:
    """The file that this process prints to; "" where it is none."""
    with suppress(OSError):
        path = Path("/proc/self/fd/1").readlink()
        return str(path) if path.is_file() else ""
    return ""
