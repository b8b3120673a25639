"""Hydra launcher that runs a multirun in a pool of processes on this machine."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class PoolLauncher(Launcher):
    """Run the jobs of a multirun on this machine, each in a new process.

    Args:
        workers: number of concurrent runs; None: as many as the cores allow.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        # imported here: Hydra imports every plugin at every start
        from accelerando.hydra_adapter import compose_jobs
        from accelerando.launch.planning import plan_runs
        from accelerando.launch.sweep import run_sweep

        jobs = compose_jobs(self._context, self._task, self._config, job_overrides, initial_job_idx)
        norms = run_sweep(plan_runs(jobs), self._workers)
        return [job.completed(norm) for job, norm in zip(jobs, norms, strict=True)]
