"""Ranks above 0: what they share with the main process, and how their errors reach it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from accelerando.budget import register
from accelerando.build import build_plan
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.data.in_memory import Batches
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.measurement import Measurement
from accelerando.training.run import run
from accelerando.training.step import SgdStep
from helpers import SHORT, forkserver, identical, train

Settings = Callable[..., RunSettings]
Reference = Callable[..., RunFolder]


def test_divergence_is_detected_at_the_same_step_in_every_rank(settings: Settings) -> None:
    """At the row interval of the first start, which only the main process reads."""
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


NEEDS: dict[str, tuple[type, str, Callable[..., bool]]] = {
    "step": (SgdStep, "gradients", lambda *given: given[2] == 128),
    "batch": (Batches, "at", lambda *given: given[2] == 128),
    "measurement": (Measurement, "_full_row", lambda *_: True),
}
"""What runs out of memory, and from which step."""


def without_memory(config: RunSettings, rank: int, port: int, what: str) -> None:
    """Entry point of one of two processes; the second runs out of memory."""
    kind, name, too_much = NEEDS[what]
    original = getattr(kind, name)

    def fails(self: Any, *arguments: Any) -> Any:
        if rank == 1 and too_much(*arguments):
            raise torch.OutOfMemoryError("no more")
        return original(self, *arguments)

    setattr(kind, name, fails)
    register()
    os.environ |= {"RANK": f"{rank}", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = f"{port}"
    try:
        run(config, [], Console(quiet=True))
    except UsageError as error:
        (run_folder(config) / "error.txt").write_text(str(error))
        sys.exit(1)


@pytest.mark.parametrize(
    ("what", "epoch", "advice"),
    [
        ("step", 1, "set hardware.micro_batch=64 or less"),
        ("batch", 1, "set hardware.micro_batch=64 or less"),
        ("measurement", 0, "measurements use chunks of 512 examples"),
    ],
)
def test_out_of_memory_in_another_rank_saves_a_checkpoint(
    what: str, epoch: int, advice: str, settings: Settings, reference: Reference
) -> None:
    more = (*SHORT, "hardware.processes=2", "optimizer.momentum=0.9")
    broken, expected = settings(*more), reference(*more)
    context, port = forkserver(), 30000 + os.getpid() % 10000
    both = [
        context.Process(target=without_memory, args=(broken, rank, port, what)) for rank in (0, 1)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [1, 1]
    folder = RunFolder(run_folder(broken))
    message = (folder.path / "error.txt").read_text()
    assert message.startswith(f"out of memory in epoch {epoch} on cpu; a checkpoint was saved")
    assert advice in message
    assert "in another process" in message
    saved = Checkpoint.load(folder, torch.device("cpu"), print)
    assert saved is not None
    assert saved.position.step == build_plan(broken).first_steps[epoch]
    assert train(broken).status == "finished"
    assert identical(folder, expected)
