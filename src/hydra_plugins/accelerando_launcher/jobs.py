"""What both launchers need of Hydra: a run's settings, and its result."""

from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


def composed(
    context: HydraContext, config: DictConfig, words: Sequence[str], number: int
) -> DictConfig:
    """The settings of the sweep's run of a number."""
    found = context.config_loader.load_sweep_config(config, list(words))
    with open_dict(found):
        found.hydra.job.id = found.hydra.job.num = number
    return found


def called(context: HydraContext, task: TaskFunction, config: DictConfig, state: Any) -> Any:
    """In the run's own process: what Hydra does around a job; the run's result, or its failure."""
    setup_globals()
    Singleton.set_state(state)
    HydraConfig.instance().set_config(config)
    found = run_job(
        hydra_context=context,
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    return found.return_value


def returned(words: Sequence[str], config: DictConfig, value: Any) -> JobReturn:
    """A run's result, as sweepers take it."""
    found = JobReturn(overrides=words, cfg=config, status=JobStatus.COMPLETED)
    found.return_value = value
    return found
