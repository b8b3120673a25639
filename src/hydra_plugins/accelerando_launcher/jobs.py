"""What both launchers need of Hydra: a run's settings, and its result."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict


def composed(
    context: HydraContext, config: DictConfig, words: Sequence[str], number: int
) -> DictConfig:
    """The settings of the sweep's run of a number."""
    found = context.config_loader.load_sweep_config(config, list(words))
    with open_dict(found):
        found.hydra.job.id = found.hydra.job.num = number
    return found


def returned(words: Sequence[str], config: DictConfig, value: Any) -> JobReturn:
    """A run's result, as sweepers take it."""
    found = JobReturn(overrides=words, cfg=config, status=JobStatus.COMPLETED)
    found.return_value = value
    return found
