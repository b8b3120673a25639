"""What can be told before anything is submitted: that the cluster is here, and takes such jobs."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from accelerando.checks import UsageError, whole
from accelerando.launch.queue import elsewhere, in_queue, partitions


def check_cluster(configs: Sequence[DictConfig], settings: dict[str, Any]) -> None:
    """Check the settings of ``hydra.launcher`` against the cluster and the runs.

    Raises:
        UsageError: what is wrong, what is allowed, what to do.
    """
    if shutil.which("sbatch") is None:
        raise UsageError(
            "there is no SLURM on this machine (no sbatch): submit from a login node, or train "
            "here with hardware=cpu or hardware=gpu"
        )
    if partitions() is None and in_queue(()) is None:
        raise UsageError(
            "SLURM does not answer on this machine (sinfo and squeue fail): submit from a login "
            "node, or see what they say"
        )
    try:
        whole("hydra.launcher.runs_per_job", settings["runs_per_job"], 1)
        whole("hydra.launcher.timeout_min", settings["timeout_min"], 1)
        whole("hydra.launcher.max_num_timeout", settings["max_num_timeout"], 0)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for processes in {config.hardware.processes for config in configs}:
        layout(settings, processes)
    _check_times(settings, max(config.checkpoint.seconds for config in configs))
    _check_partition(settings["partition"])
    for name, folder in (
        ("root", configs[0].root),
        ("hydra.launcher.submitit_folder", settings["submitit_folder"]),
        ("the working folder", Path.cwd()),
        ("Python's environment", sys.prefix),
    ):
        _check_folder(name, Path(folder))


def layout(settings: dict[str, Any], processes: int) -> tuple[int, int]:
    """Nodes, and tasks on each, for runs on so many processes.

    Raises:
        UsageError: the settings contradict each other.
    """
    nodes, per_node = settings["nodes"], settings["tasks_per_node"]
    if processes == 1 and not nodes and not per_node:
        return 1, 1
    if settings["runs_per_job"] > 1 and processes > 1:
        raise UsageError(
            f"runs of hardware.processes={processes} fill their job: "
            "hydra.launcher.runs_per_job is for runs of one process"
        )
    if per_node is None:
        per_node = processes // nodes if nodes else settings["gpus_per_node"] or processes
    per_node = min(per_node, processes)
    nodes = nodes or -(-processes // per_node)
    if nodes * per_node != processes:
        raise UsageError(
            f"hardware.processes={processes} is not {nodes} nodes of {per_node} tasks: change it, "
            "or hydra.launcher.nodes, tasks_per_node or gpus_per_node"
        )
    return nodes, per_node


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


def _check_partition(asked: str | None) -> None:
    known = partitions()
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
    local = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
    if any(folder.resolve().is_relative_to(place.resolve()) for place in local) and elsewhere():
        raise UsageError(
            f"{folder} ({name}) is a folder of this machine alone, which the nodes of the cluster "
            "cannot see: choose one on a disk that they share, such as one in your home"
        )
