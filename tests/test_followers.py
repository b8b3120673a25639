"""Processes that do not lead: what they are told, and how the leader ends where they end."""

from __future__ import annotations

from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

from accelerando.identity import run_folder
from accelerando.tracking.folder import RunFolder
from test_run import SHORT, train

Settings = Callable[..., DictConfig]


def test_they_see_that_a_loss_diverged_where_the_leader_does(settings: Settings) -> None:
    """With the cadence that the run began with, which the leader alone reads in its folder."""
    config = settings(
        *SHORT,
        "hardware.processes=2",
        "scheduler/learning_rate=constant",
        "scheduler.learning_rate.initial=1e30",
        "tracking.every=1",
    )
    folder = RunFolder(run_folder(config))
    folder.path.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create({"tracking": {"every": 1000}}), folder.config)
    assert train(config).status == "diverged"
