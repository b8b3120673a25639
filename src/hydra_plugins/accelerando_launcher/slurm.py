"""Hydra launcher that submits a multirun to SLURM and returns without waiting."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher


@dataclass
class DetachedConf(SlurmQueueConf):  # type: ignore[misc]
    """Settings of the official submitit launcher, with other defaults and two more."""

    _target_: str = "hydra_plugins.accelerando_launcher.slurm.DetachedLauncher"
    nodes: Optional[int] = None
    tasks_per_node: Optional[int] = None
    additional_parameters: Any = None  # Any: an override may replace the dictionary
    runs_per_job: int = 1
    wait: bool = False


ConfigStore.instance().store(
    group="hydra/launcher", name="detached", node=DetachedConf(), provider="accelerando"
)


class DetachedLauncher(SlurmLauncher):  # type: ignore[misc]
    """Submit the jobs of a multirun as SLURM job arrays, print their ids and return.

    Args:
        params: the settings of ``DetachedConf``.
    """

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        # imported here: Hydra imports every plugin at every start
        from accelerando.checks import UsageError
        from accelerando.hydra_adapter import compose_jobs, is_basic_sweeper
        from accelerando.launch.planning import plan_runs
        from accelerando.launch.submission import submit_sweep

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.task_function is not None
        sweeper = self.config.hydra.sweeper._target_
        if not self.params["wait"] and not is_basic_sweeper(sweeper):
            raise UsageError(
                f"{sweeper} needs the results of the runs: set hydra.launcher.wait=true, or remove "
                "the sweeper"
            )
        # composed here and not on the node, as the official launcher does: the config files may
        # change before the job starts
        jobs = compose_jobs(
            self.hydra_context, self.task_function, self.config, job_overrides, initial_job_idx
        )
        norms = submit_sweep(plan_runs(jobs), self.params)
        # norms is empty if the sweep was submitted without waiting
        return [job.completed(norm) for job, norm in zip(jobs, norms, strict=False)]
