"""Hydra's door to the pool: a launcher that hands the runs of a sweep to ``accelerando.launch``."""

from collections.abc import Sequence
from functools import partial

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.accelerando_launcher.jobs import called, composed, returned


class PoolLauncher(Launcher):
    """Runs the jobs of a multirun on this machine, a fresh process each.

    Args:
        workers: runs at a time; None: as many as the cores allow.
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
        # not at the top: Hydra imports every plugin at every start
        from accelerando.launch.planning import PlannedRun
        from accelerando.launch.sweep import run_sweep

        setup_globals()
        configs = [
            composed(self._context, self._config, overrides, initial_job_idx + number)
            for number, overrides in enumerate(job_overrides)
        ]
        state = Singleton.get_state()
        runs = [
            PlannedRun(config, overrides, partial(called, self._context, self._task, config, state))
            for overrides, config in zip(job_overrides, configs, strict=True)
        ]
        values = run_sweep(runs, self._workers)
        return [
            returned(overrides, config, value)
            for overrides, config, value in zip(job_overrides, configs, values, strict=True)
        ]
