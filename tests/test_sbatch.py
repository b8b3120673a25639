"""Parameters and environment of sbatch, from the settings of the command line."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from accelerando.budget import register
from accelerando.checks import UsageError
from accelerando.launch.sbatch import sbatch_environment, sbatch_parameters
from helpers import ROOT


def parameters(*overrides: str) -> dict[str, Any]:
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", list(overrides), return_hydra_config=True)
    launcher: Any = OmegaConf.to_container(config.hydra.launcher)
    del launcher["_target_"]
    return sbatch_parameters(launcher, config.hardware.processes, config.hardware.threads)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["hardware=slurm_cpu"], (1, 1, None)),
        (["hardware=slurm_gpu"], (1, 1, 1)),
        (["hardware=slurm_multi_gpu"], (1, 4, 4)),
        (["hardware=slurm_multi_gpu", "hardware.processes=8"], (2, 4, 4)),
        (["hardware=slurm_multi_gpu", "hardware.processes=2"], (1, 2, 2)),
        (["hardware=slurm_multi_gpu", "hardware.processes=4", "hydra.launcher.nodes=2"], (2, 2, 2)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_every_requested_gpu_has_a_process(
    overrides: list[str], expected: tuple[int, int, int | None]
) -> None:
    requested = parameters(*overrides)
    names = ("nodes", "tasks_per_node", "gpus_per_node")
    assert tuple(requested[name] for name in names) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hardware.processes=3", "hydra.launcher.nodes=2"], "is not 2 nodes x 1 tasks"),
        (["hardware.processes=2", "hydra.launcher.runs_per_job=2"], "set one of them to 1"),
    ],
)
def test_contradictory_layout_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parameters("hardware=slurm_cpu", *overrides)


PARAMETERS = {
    "timeout_min": 240,
    "mem_gb": None,
    "cpus_per_task": 1,
    "gpus_per_node": None,
    "slurm_partition": None,
    "slurm_additional_parameters": {"requeue": True},
}
KEPT = {
    # (variable, parameter that is set, or another condition): whether the variable is kept
    ("SBATCH_TIMELIMIT", ""): False,
    ("SBATCH_PARTITION", ""): True,
    ("SBATCH_PARTITION", "slurm_partition"): False,
    ("SBATCH_MEM_PER_CPU", ""): True,
    ("SBATCH_MEM_PER_CPU", "mem_gb"): False,
    ("SBATCH_MEM_PER_NODE", "mem_gb"): False,
    ("SBATCH_GPUS", ""): True,
    ("SBATCH_GPUS", "gpus_per_node"): False,
    ("SBATCH_NO_REQUEUE", ""): False,
    ("SBATCH_SIGNAL", ""): False,
    ("SBATCH_RESERVATION", ""): True,
    ("SBATCH_RESERVATION", "additional reservation"): False,
    ("SBATCH_THREAD_SPEC", "additional thread-spec"): False,
    ("SLURM_ARRAY_TASK_ID", ""): True,
    ("SLURM_ARRAY_TASK_ID", "inside a job"): False,
    ("SLURM_CONF", "inside a job"): True,
    ("PARTITION", "slurm_partition"): True,
}


@pytest.mark.parametrize(("variable", "condition"), KEPT)
def test_variables_that_override_a_parameter_are_removed(
    variable: str, condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv(variable, "7")
    given = dict(PARAMETERS)
    if condition == "inside a job":
        monkeypatch.setenv("SLURM_JOB_ID", "1")
    elif condition.startswith("additional "):
        given["slurm_additional_parameters"] = {condition.split()[1]: 1}
    elif condition:
        given[condition] = 1
    with sbatch_environment(given):
        assert (variable in os.environ) == KEPT[variable, condition]
    assert os.environ[variable] == "7"
