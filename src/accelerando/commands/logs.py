"""Show what a run's processes and its SLURM job printed."""

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
    """What the command takes."""
    parser.add_argument("run", type=Path, help="its folder, as `accelerando status` says")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as more is printed")


def act(options: argparse.Namespace) -> None:
    """Print the run's output, that of its job first."""
    paths = outputs(options.run)
    if options.follow:
        os.execvp("tail", ["tail", "-n", "+1", "-F", *map(str, paths)])
    for path in paths:
        if len(paths) > 1:
            print(f"==> {path} <==")
        print(path.read_text(errors="replace"), end="")


def outputs(folder: Path) -> list[Path]:
    """The files that hold what a run printed.

    Raises:
        UsageError: there is none, and why.
    """
    word = read_slurm_record(folder) if folder.is_dir() else None
    if word is None and (not folder.is_dir() or not RunFolder(folder).state.exists()):
        raise UsageError(f"{folder} is not the folder of a run: `accelerando status` lists them")
    possible = _of_all_tasks(Path(word.output)) if word is not None and word.output else []
    found = [path for path in (*possible, RunFolder(folder).output) if path.is_file()]
    if not found:
        (run,) = add_slurm_status([run_status(folder)])
        details = f" ({run.details})" if run.details else ""
        raise UsageError(f"no output of {folder} was kept: it is {run.status}{details}")
    return found


def _of_all_tasks(first: Path) -> list[Path]:
    """The output of a job's first task, and those of its others, which submitit numbers."""
    job, numbered, _ = first.name.rpartition("_0_log")
    tasks = first.parent.glob(f"{job}_*_log.*") if numbered else [first]
    return sorted(tasks, key=lambda path: (len(path.name), path.name))  # 2 before 10
