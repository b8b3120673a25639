"""The environment in which sbatch is called."""

from __future__ import annotations

import os

import pytest

from accelerando.launch.environment import sbatch_environment

GIVEN = {
    "timeout_min": 240,
    "mem_gb": None,
    "cpus_per_task": 1,
    "gpus_per_node": None,
    "slurm_partition": None,
    "slurm_additional_parameters": {"requeue": True},
}
KEPT = {
    # what is in the environment, what else is set: whether it stays
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
    ("SBATCH_RESERVATION", "reservation of sbatch"): False,
    ("SBATCH_THREAD_SPEC", "thread-spec of sbatch"): False,
    ("SLURM_ARRAY_TASK_ID", ""): True,
    ("SLURM_ARRAY_TASK_ID", "inside"): False,
    ("SLURM_CONF", "inside"): True,
    ("PARTITION", "slurm_partition"): True,
}


@pytest.mark.parametrize(("name", "more"), KEPT)
def test_what_is_set_is_not_overruled(
    name: str, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv(name, "7")
    told = dict(GIVEN)
    if more == "inside":
        monkeypatch.setenv("SLURM_JOB_ID", "1")
    elif more.endswith(" of sbatch"):
        told["slurm_additional_parameters"] = {more.split()[0]: 1}
    elif more:
        told[more] = 1
    with sbatch_environment(told):
        assert (name in os.environ) == KEPT[name, more]
    assert os.environ[name] == "7"
