"""Hydra internals that the project relies on, gathered in one file.

Hydra documents how to write a launcher, but not how to run a job in another process or how to
expand a sweep without running it. ``tests/test_hydra_adapter.py`` fails if these parts move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, open_dict


def command_line_overrides(arguments: Sequence[str]) -> list[str] | None:
    """Return the overrides among command-line arguments, or None if an option is unknown."""
    known, unknown = get_args_parser().parse_known_intermixed_args(arguments)
    return None if unknown else list(known.overrides)


def expand_sweep(config_name: str, overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of every job of a multirun, in order; Hydra must be initialized."""
    loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration(config_name, list(overrides), run_mode=RunMode.MULTIRUN)
    params = config.hydra.sweeper.get("params") or {}
    parser = OverridesParser.create(config_loader=loader)
    parsed = parser.parse_overrides([*(f"{k}={v}" for k, v in params.items()), *overrides])
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return jobs


def is_basic_sweeper(target: str) -> bool:
    """Return whether ``target`` is Hydra's own sweeper, which ignores the results of its jobs."""
    return target.endswith(f".{BasicSweeper.__name__}")


@dataclass(frozen=True)
class HydraJob:
    """One job of a multirun: composed by the launcher, called in another process.

    ``singletons`` is Hydra's global state, which is restored in the other process.
    """

    config: DictConfig
    overrides: Sequence[str]
    context: HydraContext
    task: TaskFunction
    singletons: Any

    def __call__(self) -> Any:
        """Run the job as Hydra does and return its value, or raise its exception."""
        setup_globals()
        Singleton.set_state(self.singletons)
        job = run_job(
            hydra_context=self.context,
            task_function=self.task,
            config=self.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        return job.return_value

    def completed(self, value: Any) -> JobReturn:
        """Return the result of the job in the form that sweepers expect."""
        result = JobReturn(overrides=self.overrides, cfg=self.config, status=JobStatus.COMPLETED)
        result.return_value = value
        return result


def compose_jobs(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first_number: int,
) -> list[HydraJob]:
    """Compose the jobs of a multirun, given what Hydra passes to ``Launcher.setup``.

    ``first_number`` is the ``hydra.job.num`` of the first job.
    """
    singletons = Singleton.get_state()
    jobs = []
    for number, overrides in enumerate(job_overrides, first_number):
        composed = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(composed):
            composed.hydra.job.id = composed.hydra.job.num = number
        jobs.append(HydraJob(composed, overrides, context, task, singletons))
    return jobs
