"""The settings of ``hydra.launcher`` as submitit and sbatch are told them."""

from __future__ import annotations

import signal
from typing import Any

from submitit import JobEnvironment, SlurmExecutor

from accelerando.checks import UsageError

OURS = ("runs_per_job", "wait", "submitit_folder", "max_num_timeout")
"""Settings of the launcher that are not sbatch's."""
SUBMITIT = (
    "name",
    "timeout_min",
    "mem_gb",
    "nodes",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "stderr_to_stdout",
)
"""Settings that submitit has for every kind of cluster."""
AFTER = """\
code=$?
job=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
if [ $code = {killed} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {times} ]; then
    scontrol requeue $job
fi"""
"""Lines of shell after the tasks; the signal before the end kills those that do not listen yet."""


def check_names(settings: dict[str, Any]) -> None:
    """Refuse a setting that neither the launcher nor submitit has.

    Raises:
        UsageError: which one, and where sbatch's other options go.
    """
    known = {*OURS, *SUBMITIT, *SlurmExecutor._valid_parameters()}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UsageError(
            f"hydra.launcher has no setting {', '.join(unknown)}; it has "
            f"{', '.join(sorted(set(settings) - set(unknown)))}; other options of sbatch go into "
            "hydra.launcher.additional_parameters={name: value}"
        )


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


def parameters(settings: dict[str, Any], processes: int, threads: int) -> dict[str, Any]:
    """What submitit is told: its own settings by their names, SLURM's with a prefix.

    Args:
        settings: those of ``hydra.launcher``.
        processes: of each run.
        threads: of each process.
    """
    nodes, per_node = layout(settings, processes)
    values = {key: value for key, value in settings.items() if key not in OURS}
    values |= {"nodes": nodes, "tasks_per_node": per_node}
    if values["gpus_per_node"]:  # more than a GPU for each process would idle
        values["gpus_per_node"] = min(values["gpus_per_node"], per_node)
    more = values["additional_parameters"] or {}
    more = {key.replace("_", "-"): value for key, value in more.items()}
    if "no-requeue" not in more:
        more = {"requeue": True} | more
    values["additional_parameters"] = more
    if values["cpus_per_task"] is None and values["cpus_per_gpu"] is None:
        values["cpus_per_task"] = threads * settings["runs_per_job"]
    # srun, which starts the tasks inside a job, is told again: sites give jobs no environment
    # (SBATCH_EXPORT=NONE), and since 22.05 it binds a task to one processor unless it is told
    cpus = more.get("cpus-per-task", values["cpus_per_task"])
    told = ["--export=ALL", *([f"--cpus-per-task={cpus}"] if cpus else [])]
    values["srun_args"] = [*told, *(values.get("srun_args") or [])]
    told_by = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
    after = AFTER.format(killed=128 + told_by, times=settings["max_num_timeout"])
    values["teardown"] = [after, *(values.get("teardown") or []), "exit $code"]
    return {k if k in SUBMITIT else f"slurm_{k}": v for k, v in values.items()}
