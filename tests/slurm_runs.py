"""What tests of runs on a real SLURM share: to submit them, and to see how they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from accelerando.composition import compose_runs
from accelerando.identity import run_folder
from accelerando.launch.slurm_status import add_slurm_status
from accelerando.runs.folder import RunFolder, Status
from accelerando.runs.listing import RunStatus, list_runs
from cluster import Cluster
from conftest import ROOT

LONG = ("model=mlp", "epochs=300", "checkpoint.epochs=1", "tracking.every=200")
"""Long enough to be met on its way."""
ON_SLURM = ("hardware=slurm_cpu", "hydra.launcher.mem_gb=1")
HELD = "hydra.launcher.additional_parameters={begin: now+1hour}"
"""Until a test lets it begin."""


def python(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """A command of the product's, as a user gives it; runs have no W&B unless told."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "WANDB_MODE": "disabled", **more},
        capture_output=True,
        text=True,
        timeout=300,
    )


def submit(root: Path, *words: str) -> str:
    """Submit runs and return the job's id."""
    result = python(ROOT / "train.py", *ON_SLURM, *words, f"root={root}")
    assert result.returncode == 0, result.stderr
    (job,) = re.findall(r"^submitted job (\d+)", result.stdout)
    return str(job)


def folder_of(root: Path, *words: str) -> RunFolder:
    (config,) = compose_runs([*words, f"root={root}"])
    return RunFolder(run_folder(config))


def epochs_of(folder: RunFolder) -> int:
    state = folder.read_state()
    return 0 if state is None else state.epoch


def status_of(folder: RunFolder) -> str:
    state = folder.read_state()
    return "none" if state is None else state.status


def finish(cluster: Cluster, *folders: RunFolder, seconds: float = 240) -> None:
    """Wait until runs have finished."""
    cluster.wait_until(
        lambda: all(status_of(folder) == Status.FINISHED for folder in folders),
        seconds,
        lambda: cluster.call("sacct", "-D", "-X"),
    )


def seen(folder: RunFolder) -> RunStatus:
    (run,) = add_slurm_status(list_runs(folder.path))
    return run


def stages(cluster: Cluster, folder: RunFolder, last: str, seconds: float = 240) -> list[str]:
    """What `accelerando status` says of a run, in order, until it says ``last``."""
    found: list[str] = []

    def reached() -> bool:
        status = seen(folder).status
        found.extend([status] if status not in found[-1:] else [])
        return status == last

    cluster.wait_until(reached, seconds, lambda: (found, cluster.call("sacct", "-D", "-X")))
    return found
