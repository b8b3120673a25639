"""Helpers of tests that train runs on a real SLURM cluster: submit, wait, read the status."""

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
from helpers import ROOT
from slurm_cluster import Cluster

LONG = ("model=mlp", "epochs=300", "checkpoint.epochs=1", "tracking.every=200")
"""Overrides for a run that is long enough to be interrupted."""
ON_SLURM = ("hardware=slurm_cpu", "hydra.launcher.mem_gb=1")
BEGIN_LATER = "hydra.launcher.additional_parameters={begin: now+1hour}"
"""The job waits until the test calls ``cluster.release``."""


def python(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with Python, by default with W&B disabled."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "WANDB_MODE": "disabled", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def submit(root: Path, *overrides: str) -> str:
    """Submit runs and return the job id."""
    result = python(ROOT / "train.py", *ON_SLURM, *overrides, f"root={root}")
    assert result.returncode == 0, result.stderr
    return job_id(result.stdout)


def job_id(output: str) -> str:
    """Return the job id from what a submission printed."""
    (job,) = re.findall(r"^submitted job (\d+)", output)
    return str(job)


def folder_of(root: Path, *overrides: str) -> RunFolder:
    (settings,) = compose_runs([*overrides, f"root={root}"])
    return RunFolder(run_folder(settings))


def completed_epochs(folder: RunFolder) -> int:
    state = folder.read_state()
    return 0 if state is None else state.epoch


def status_of(folder: RunFolder) -> str:
    """Return the status in ``state.json``."""
    state = folder.read_state()
    return "none" if state is None else state.status


def listed(folder: RunFolder) -> RunStatus:
    """Return the run as ``accelerando status`` lists it."""
    (run,) = add_slurm_status(list_runs(folder.path))
    return run


def wait_until_finished(cluster: Cluster, *folders: RunFolder, seconds: float = 240) -> None:
    cluster.wait_until(
        lambda: all(status_of(folder) == Status.FINISHED for folder in folders),
        seconds,
        lambda: cluster.call("sacct", "-D", "-X"),
    )


def statuses_until(
    cluster: Cluster, folder: RunFolder, last: str, seconds: float = 240
) -> list[str]:
    """Wait until ``accelerando status`` lists ``last``; return all statuses on the way."""
    statuses: list[str] = []

    def reached() -> bool:
        status = listed(folder).status
        statuses.extend([status] if status not in statuses[-1:] else [])
        return status == last

    cluster.wait_until(reached, seconds, lambda: (statuses, cluster.call("sacct", "-D", "-X")))
    return statuses
