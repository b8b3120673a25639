"""Checks of a sweep against the SLURM cluster, before anything is submitted."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerando.checks import UsageError, check_integer
from accelerando.launch.planning import PlannedRun
from accelerando.launch.sbatch import check_setting_names, task_layout
from accelerando.launch.slurm_status import has_remote_nodes, list_partitions, queued_jobs

LOCAL_FOLDERS = [Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
"""Folders that each machine has for itself; TMPDIR is not among them, as it may be shared."""


def check_cluster(runs: Sequence[PlannedRun], launcher: dict[str, Any]) -> None:
    """Check the settings of ``hydra.launcher`` against the cluster and the runs.

    Raises:
        UsageError: SLURM is not available, or a setting does not fit.
    """
    for program in ("sbatch", "srun"):  # submitit needs both
        if shutil.which(program) is None:
            raise UsageError(
                f"SLURM is not installed on this machine ({program} not found): submit from a "
                "login node, or train here with hardware=cpu or hardware=gpu"
            )
    partitions = list_partitions()
    if partitions is None and queued_jobs(()) is None:
        raise UsageError(
            "SLURM does not respond on this machine (sinfo and squeue fail): submit from a login "
            "node, or run them to see why"
        )
    check_setting_names(launcher)
    _check_cluster_selection(launcher)
    try:
        check_integer("hydra.launcher.runs_per_job", launcher["runs_per_job"], 1)
        check_integer("hydra.launcher.timeout_min", launcher["timeout_min"], 1)
        check_integer("hydra.launcher.max_num_timeout", launcher["max_num_timeout"], 0)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for processes in {run.settings.hardware.processes for run in runs}:
        task_layout(launcher, processes)
    _check_times(launcher, max(run.settings.checkpoint.seconds for run in runs))
    _check_partition(launcher["partition"], partitions)
    for name, folder in (
        ("root", runs[0].settings.root),
        ("hydra.launcher.submitit_folder", launcher["submitit_folder"]),
        ("the working folder", Path.cwd()),
        ("Python's environment", sys.prefix),
    ):
        _check_folder(name, Path(folder))


def _check_cluster_selection(launcher: dict[str, Any]) -> None:
    """Refuse to select a cluster for sbatch alone: squeue would query another one."""
    additional = launcher["additional_parameters"] or {}
    if "clusters" in additional or "SBATCH_CLUSTERS" in os.environ:
        raise UsageError(
            "additional_parameters.clusters and SBATCH_CLUSTERS select a cluster for sbatch only: "
            "export SLURM_CLUSTERS instead, also for `accelerando status`"
        )


def _check_times(launcher: dict[str, Any], checkpoint_seconds: float) -> None:
    limit = 60 * launcher["timeout_min"]
    if limit <= checkpoint_seconds:
        raise UsageError(
            f"hydra.launcher.timeout_min={launcher['timeout_min']} ends a job before its first "
            f"checkpoint: increase it, or set checkpoint.seconds below {limit} "
            f"(now {checkpoint_seconds:g})"
        )
    if limit <= launcher["signal_delay_s"]:
        raise UsageError(
            f"hydra.launcher.signal_delay_s={launcher['signal_delay_s']} must be below the time "
            f"limit of a job ({limit} s): decrease it, or increase hydra.launcher.timeout_min"
        )


def _check_partition(requested: str | None, known: list[str] | None) -> None:
    if requested is None or known is None:
        return
    unknown = [name for name in requested.split(",") if name not in known]
    if unknown:
        raise UsageError(
            f"hydra.launcher.partition={requested}: there is no partition {', '.join(unknown)}; "
            f"the cluster has {', '.join(known)}"
        )


def _check_folder(name: str, folder: Path) -> None:
    """Refuse a folder that the nodes of the cluster cannot see."""
    local = any(folder.resolve().is_relative_to(place.resolve()) for place in LOCAL_FOLDERS)
    if local and has_remote_nodes():
        raise UsageError(
            f"{folder} ({name}) exists on this machine only, the nodes of the cluster cannot see "
            "it: choose a folder on a shared disk, such as your home"
        )
