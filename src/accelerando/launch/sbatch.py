"""The parameters and the environment of sbatch, derived from the settings of ``hydra.launcher``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerando.checks import UsageError
from accelerando.launch.submitit_adapter import REQUEUE_SIGNAL, executor_parameters

LAUNCHER_SETTINGS = ("runs_per_job", "wait", "submitit_folder", "max_num_timeout")
"""Settings of ``hydra.launcher`` that are not parameters of sbatch."""
SUBMITIT_PARAMETERS = (
    "name",
    "timeout_min",
    "mem_gb",
    "nodes",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "stderr_to_stdout",
)
"""Parameters that submitit has for every kind of cluster; others get the prefix ``slurm_``."""

REQUEUE_IF_KILLED = """\
code=$?
if [ $code = {killed} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then
    {python} -m accelerando.launch.requeue
fi"""
"""Shell code that runs after the tasks: the signal before the time limit kills a task that has not
installed its signal handler yet, so the task cannot requeue the job itself."""

CLUSTER_VARIABLES = ("SLURM_CONF", "SLURM_CLUSTERS")
"""Variables that select the cluster; unlike other SLURM_ variables they are kept inside a job."""
ALWAYS_SET = ("ARRAY_INX", "SIGNAL", "OUTPUT", "ERROR", "OPEN_MODE", "REQUEUE", "NO_REQUEUE")
"""Options that every submission sets."""
OPTION_VARIABLES = {
    "name": "JOB_NAME",
    "timeout_min": "TIMELIMIT",
    "time": "TIMELIMIT",
    "mem_gb": "MEM_PER_NODE",
    "mem": "MEM_PER_NODE",
}
"""Parameters whose SBATCH_ variable has another name."""
EXCLUSIVE_OPTIONS = ("MEM_PER_", "GPUS")
"""Prefixes of options of which sbatch accepts only one, such as memory per node or per CPU."""


def check_setting_names(launcher: dict[str, Any]) -> None:
    """Check that the launcher or submitit knows every setting.

    Raises:
        UsageError: a setting is unknown.
    """
    known = {*LAUNCHER_SETTINGS, *SUBMITIT_PARAMETERS, *executor_parameters()}
    unknown = sorted(set(launcher) - known)
    if unknown:
        raise UsageError(
            f"hydra.launcher has no setting {', '.join(unknown)}; it has "
            f"{', '.join(sorted(set(launcher) - set(unknown)))}; pass other sbatch options as "
            "hydra.launcher.additional_parameters={name: value}"
        )


def task_layout(launcher: dict[str, Any], processes: int) -> tuple[int, int]:
    """Return the number of nodes, and of tasks per node, for runs of ``processes`` processes.

    Raises:
        UsageError: the settings contradict each other.
    """
    nodes, per_node = launcher["nodes"], launcher["tasks_per_node"]
    if processes == 1 and not nodes and not per_node:
        return 1, 1
    if launcher["runs_per_job"] > 1 and processes > 1:
        raise UsageError(
            "hydra.launcher.runs_per_job is for runs of one process, but hardware.processes="
            f"{processes}: set one of them to 1"
        )
    if per_node is None:
        per_node = processes // nodes if nodes else launcher["gpus_per_node"] or processes
    per_node = min(per_node, processes)
    nodes = nodes or -(-processes // per_node)
    if nodes * per_node != processes:
        raise UsageError(
            f"hardware.processes={processes} is not {nodes} nodes x {per_node} tasks: change it, "
            "or hydra.launcher.nodes, tasks_per_node or gpus_per_node"
        )
    return nodes, per_node


def sbatch_parameters(launcher: dict[str, Any], processes: int, threads: int) -> dict[str, Any]:
    """Return the parameters of submitit's executor for the settings of ``hydra.launcher``.

    Each run has ``processes`` processes of ``threads`` threads.
    """
    nodes, per_node = task_layout(launcher, processes)
    values = {key: value for key, value in launcher.items() if key not in LAUNCHER_SETTINGS}
    values |= {"nodes": nodes, "tasks_per_node": per_node}
    if values["gpus_per_node"]:  # each process uses one GPU; more would be idle
        values["gpus_per_node"] = min(values["gpus_per_node"], per_node)
    additional = values["additional_parameters"] or {}
    additional = {key.replace("_", "-"): value for key, value in additional.items()}
    if "no-requeue" not in additional:
        additional = {"requeue": True} | additional
    values["additional_parameters"] = additional
    if values["cpus_per_task"] is None and values["cpus_per_gpu"] is None:
        values["cpus_per_task"] = threads * launcher["runs_per_job"]
    # repeated for srun, which starts the tasks: sites may give jobs an empty environment
    # (SBATCH_EXPORT=NONE), and since SLURM 22.05 srun does not inherit sbatch's --cpus-per-task
    cpus = additional.get("cpus-per-task", values["cpus_per_task"])
    srun = ["--export=ALL", *([f"--cpus-per-task={cpus}"] if cpus else [])]
    values["srun_args"] = [*srun, *(values.get("srun_args") or [])]
    requeue = REQUEUE_IF_KILLED.format(
        killed=128 + REQUEUE_SIGNAL,
        requeues=launcher["max_num_timeout"],
        python=shlex.quote(sys.executable),
    )
    values["teardown"] = [requeue, *(values.get("teardown") or []), "exit $code"]
    return {k if k in SUBMITIT_PARAMETERS else f"slurm_{k}": v for k, v in values.items()}


@contextmanager
def sbatch_environment(parameters: dict[str, Any]) -> Iterator[None]:
    """Remove variables from the environment that override the batch script's own options.

    These are the variables of a job that this command runs in (for example its array index, or its
    memory per CPU, which excludes memory per node), and those SBATCH_ variables that concern a
    parameter that is set: SBATCH_PARTITION counts only if ``partition`` is null.
    """
    inside_job = "SLURM_JOB_ID" in os.environ
    removed = {
        name: value
        for name, value in os.environ.items()
        if (inside_job and _is_job_variable(name)) or _overrides_a_parameter(name, parameters)
    }
    for name in removed:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(removed)


def _is_job_variable(name: str) -> bool:
    return name.startswith(("SLURM_", "SLURMD_", "SRUN_")) and name not in CLUSTER_VARIABLES


def _overrides_a_parameter(name: str, parameters: dict[str, Any]) -> bool:
    prefix, _, option = name.partition("_")
    if prefix != "SBATCH":
        return False
    options = {**parameters, **parameters["slurm_additional_parameters"]}
    given = {_variable_suffix(key) for key, value in options.items() if value is not None}
    return option in (*ALWAYS_SET, *given) or any(
        option.startswith(prefix) and any(other.startswith(prefix) for other in given)
        for prefix in EXCLUSIVE_OPTIONS
    )


def _variable_suffix(parameter: str) -> str:
    """Return the name of the parameter's environment variable without ``SBATCH_``."""
    option = parameter.removeprefix("slurm_").replace("-", "_")
    return OPTION_VARIABLES.get(option, option.upper())
