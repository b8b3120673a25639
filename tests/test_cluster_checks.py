"""Sweeps that cannot run on the cluster are refused with one line before anything is submitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelerando.checks import UsageError
from accelerando.launch import cluster_checks as checks
from accelerando.launch.planning import PlannedRun
from accelerando.launch.pool import Job
from accelerando.validation import validate
from helpers import ROOT, compose_settings
from slurm_cluster import Cluster
from slurm_runs import ON_SLURM, python

REFUSED = {
    "hydra.launcher.partition=gpu": "there is no partition gpu; the cluster has main, urgent",
    "hydra.launcher.timeout_min=1": "ends a job before its first checkpoint",
    "hydra.launcher.signal_delay_s=99999": "must be below the time limit of a job",
    "hydra.launcher.runs_per_job=0": "hydra.launcher.runs_per_job must be at least 1",
    "hydra.launcher.mem_gb=90000": "SLURM rejected the job",
    "hardware.processes=3 hydra.launcher.nodes=2": "hardware.processes=3 is not 2 nodes",
    "hydra.launcher.additional_parameters={clusters:b}": "export SLURM_CLUSTERS instead",
    "+hydra.launcher.memory=8": "hydra.launcher has no setting memory; it has",
    "scheduler.batch_size.growth=0.5": "growth must be at least 1",
    "model.widths=[0]": "widths must be at least 1",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_invalid_sweep_is_refused_with_one_line(
    overrides: str, cluster: Cluster, tmp_path: Path
) -> None:
    arguments = ["model=mlp", "-m", "seed=0,1", *overrides.split(), f"root={tmp_path}"]
    result = python(ROOT / "train.py", *ON_SLURM, *arguments)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert line.startswith("error: ")
    assert REFUSED[overrides] in line
    assert cluster.call("squeue", "-h") == ""


@pytest.mark.parametrize("present", [[], ["sbatch"]])
def test_missing_slurm_command_is_named(present: list[str], tmp_path: Path) -> None:
    for program in present:
        (tmp_path / program).touch(0o755)
    result = python(ROOT / "train.py", *ON_SLURM, f"root={tmp_path}", PATH=str(tmp_path))
    assert result.returncode == 1
    missing = "srun" if present else "sbatch"
    message = f"error: SLURM is not installed on this machine ({missing} not found): submit"
    assert result.stderr.startswith(message)


def test_folder_that_nodes_cannot_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "has_remote_nodes", lambda: True)
    with pytest.raises(UsageError, match="exists on this machine only"):
        checks._check_folder("root", Path("/tmp/runs"))
    checks._check_folder("root", Path("/home/me/runs"))


def test_working_folder_is_checked_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Jobs start in the working folder, so the nodes must see it."""
    monkeypatch.setattr(checks, "has_remote_nodes", lambda: True)
    monkeypatch.setattr(checks, "LOCAL_FOLDERS", [tmp_path])
    monkeypatch.setattr(checks.shutil, "which", lambda _: "sbatch")
    monkeypatch.setattr(checks, "list_partitions", lambda: ["main"])
    monkeypatch.chdir(tmp_path)
    settings = compose_settings("hardware=slurm_cpu", "root=/home/me/runs")
    run = PlannedRun(settings, validate(settings), Job("run", tmp_path, print))
    launcher = {
        **dict.fromkeys(("nodes", "tasks_per_node", "gpus_per_node", "partition")),
        "additional_parameters": None,
        **{"runs_per_job": 1, "timeout_min": 240, "max_num_timeout": 1, "signal_delay_s": 120},
        "submitit_folder": "/home/me/submitit",
    }
    with pytest.raises(UsageError, match="the working folder"):
        checks.check_cluster([run], launcher)
