"""Show the output of a run and of its SLURM job."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from accelerando.checks import UsageError
from accelerando.launch.slurm_status import add_slurm_status
from accelerando.runs.folder import RunFolder
from accelerando.runs.listing import run_status
from accelerando.runs.slurm_record import read_slurm_record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.add_argument("run", type=Path, help="run folder, as listed by `accelerando status`")
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing new output")


def run_command(options: argparse.Namespace) -> None:
    """Print the output of the job, then that of the run."""
    paths = output_files(options.run)
    if options.follow:
        os.execvp("tail", ["tail", "-n", "+1", "-F", *map(str, paths)])
    for path in paths:
        if len(paths) > 1:
            print(f"==> {path} <==")
        print(path.read_text(errors="replace"), end="")


def output_files(folder: Path) -> list[Path]:
    """Return the files that contain the output of a run.

    Raises:
        UsageError: there are none, or the folder is not a run folder.
    """
    record = read_slurm_record(folder) if folder.is_dir() else None
    if record is None and (not folder.is_dir() or not RunFolder(folder).state.exists()):
        raise UsageError(f"{folder} is not a run folder: `accelerando status` lists them")
    job_files = _task_files(Path(record.output)) if record is not None and record.output else []
    files = [path for path in (*job_files, RunFolder(folder).output) if path.is_file()]
    if not files:
        (run,) = add_slurm_status([run_status(folder)])
        details = f" ({run.details})" if run.details else ""
        raise UsageError(f"no output was saved for {folder}: the run is {run.status}{details}")
    return files


def _task_files(first: Path) -> list[Path]:
    """Return the output files of all tasks of a job, given that of the first task."""
    job, is_submitit, _ = first.name.rpartition("_0_log")
    files = first.parent.glob(f"{job}_*_log.*") if is_submitit else [first]
    return sorted(files, key=lambda path: (len(path.name), path.name))  # 2 before 10
