"""What can be told before anything is submitted: that the cluster is here, and takes such jobs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerando.checks import UsageError, whole
from accelerando.config import RunSettings
from accelerando.launch.parameters import check_names, layout
from accelerando.launch.slurm_queue import other_clusters, partitions, queued_jobs

LOCAL = [Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
"""Folders that every machine has its own of; what TMPDIR names may be shared."""


def check_cluster(configs: Sequence[RunSettings], settings: dict[str, Any]) -> None:
    """Check the settings of ``hydra.launcher`` against the cluster and the runs.

    Raises:
        UsageError: what is wrong, what is allowed, what to do.
    """
    for program in ("sbatch", "srun"):  # submitit looks for the second
        if shutil.which(program) is None:
            raise UsageError(
                f"there is no SLURM on this machine (no {program}): submit from a login node, or "
                "train here with hardware=cpu or hardware=gpu"
            )
    known = partitions()
    if known is None and queued_jobs(()) is None:
        raise UsageError(
            "SLURM does not answer on this machine (sinfo and squeue fail): submit from a login "
            "node, or see what they say"
        )
    check_names(settings)
    _check_clusters(settings)
    try:
        whole("hydra.launcher.runs_per_job", settings["runs_per_job"], 1)
        whole("hydra.launcher.timeout_min", settings["timeout_min"], 1)
        whole("hydra.launcher.max_num_timeout", settings["max_num_timeout"], 0)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for processes in {config.hardware.processes for config in configs}:
        layout(settings, processes)
    _check_times(settings, max(config.checkpoint.seconds for config in configs))
    _check_partition(settings["partition"], known)
    for name, folder in (
        ("root", configs[0].root),
        ("hydra.launcher.submitit_folder", settings["submitit_folder"]),
        ("the working folder", Path.cwd()),
        ("Python's environment", sys.prefix),
    ):
        _check_folder(name, Path(folder))


def _check_clusters(settings: dict[str, Any]) -> None:
    """Refuse what tells sbatch alone which cluster is meant: squeue would ask another."""
    more = settings["additional_parameters"] or {}
    if "clusters" in more or "SBATCH_CLUSTERS" in os.environ:
        raise UsageError(
            "additional_parameters.clusters and SBATCH_CLUSTERS name a cluster to sbatch alone: "
            "export SLURM_CLUSTERS instead, also for `accelerando status`"
        )


def _check_times(settings: dict[str, Any], between_checkpoints: float) -> None:
    limit = 60 * settings["timeout_min"]
    if limit <= between_checkpoints:
        raise UsageError(
            f"hydra.launcher.timeout_min={settings['timeout_min']} ends a job before its first "
            f"checkpoint: give more time, or set checkpoint.seconds below {limit} "
            f"(now {between_checkpoints:g})"
        )
    if limit <= settings["signal_delay_s"]:
        raise UsageError(
            f"hydra.launcher.signal_delay_s={settings['signal_delay_s']} announces the end of a "
            f"job that lasts {limit} seconds before it begins: set it lower, or give more time"
        )


def _check_partition(asked: str | None, known: list[str] | None) -> None:
    if asked is None or known is None:
        return
    unknown = [name for name in asked.split(",") if name not in known]
    if unknown:
        raise UsageError(
            f"hydra.launcher.partition={asked}: there is no partition {', '.join(unknown)}; "
            f"the cluster has {', '.join(known)}"
        )


def _check_folder(name: str, folder: Path) -> None:
    """Refuse a folder that only this machine has, where jobs run on others."""
    if (
        any(folder.resolve().is_relative_to(place.resolve()) for place in LOCAL)
        and other_clusters()
    ):
        raise UsageError(
            f"{folder} ({name}) is a folder of this machine alone, which the nodes of the cluster "
            "cannot see: choose one on a disk that they share, such as one in your home"
        )
