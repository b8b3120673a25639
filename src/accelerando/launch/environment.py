"""The environment in which sbatch is called: without what would overrule the settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS")
"""Variables that say which cluster is meant, also inside of a job."""
ALWAYS = ("ARRAY_INX", "SIGNAL", "OUTPUT", "ERROR", "OPEN_MODE", "REQUEUE", "NO_REQUEUE")
"""What every submission says itself."""
NAMES = {
    "name": "JOB_NAME",
    "timeout_min": "TIMELIMIT",
    "time": "TIMELIMIT",
    "mem_gb": "MEM_PER_NODE",
    "mem": "MEM_PER_NODE",
}
"""Options whose variables are not called as they are."""
SEVERAL = ("MEM_PER_", "GPUS")
"""What can be said in several ways, of which one excludes the others."""


@contextmanager
def sbatch_environment(parameters: dict[str, Any]) -> Iterator[None]:
    """Without variables that sbatch would believe more than the script that it is given.

    Those of a job that this command may run in (an array's numbers, or memory for each processor,
    which excludes memory for each node), and a user's SBATCH_PARTITION where the settings name a
    partition; where they do not, it counts.

    Args:
        parameters: what submitit is told.
    """
    inside = "SLURM_JOB_ID" in os.environ
    words = {
        name: value
        for name, value in os.environ.items()
        if (inside and _of_a_job(name)) or _overrules(name, parameters)
    }
    for name in words:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(words)


def _of_a_job(name: str) -> bool:
    return name.startswith(("SLURM_", "SLURMD_", "SRUN_")) and name not in OF_THE_CLUSTER


def _overrules(name: str, parameters: dict[str, Any]) -> bool:
    kind, _, option = name.partition("_")
    if kind != "SBATCH":
        return False
    told = {**parameters, **parameters["slurm_additional_parameters"]}
    given = {_variable(key) for key, value in told.items() if value is not None}
    return option in (*ALWAYS, *given) or any(
        option.startswith(part) and any(other.startswith(part) for other in given)
        for part in SEVERAL
    )


def _variable(key: str) -> str:
    """What an option is called in the environment, without SBATCH_."""
    option = key.removeprefix("slurm_").replace("-", "_")
    return NAMES.get(option, option.upper())
