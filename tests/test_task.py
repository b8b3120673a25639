"""What every process of a run prepares: initial weights, data and notes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from accelerando.build import build_plan
from accelerando.config import RunSettings
from accelerando.data.in_memory import Batches
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder
from accelerando.training.task import prepare_task
from helpers import SHORT, read_rows, train

Settings = Callable[..., RunSettings]


def test_runs_are_paired_by_seed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under two schedulers, a seed gives the same initial weights and data order."""
    starts, orders = [], []
    batches_at = Batches.at

    def at(self: Batches, epoch: int, offset: int, size: int) -> Any:
        batch = batches_at(self, epoch, offset, size)
        orders[-1].append(batch[1])
        return batch

    monkeypatch.setattr(Batches, "at", at)
    for scheduler in ("decay_constant", "warmup_increase"):
        orders.append([])
        config = settings("model=mlp", "epochs=1", f"scheduler={scheduler}")
        train(config)
        starts.append(read_rows(RunFolder(run_folder(config)).record)[0]["full_gradient_norm"])
    assert starts[0] == starts[1]
    assert len(orders[0]) != len(orders[1])
    assert torch.equal(torch.cat(orders[0]), torch.cat(orders[1]))


SHARES = (
    r"^each of the 2 processes computes BatchNorm statistics of its own share.*sync_batch_norm=true"
)
PARTS = r"^BatchNorm uses the statistics of micro-batches of 100 examples \(hardware\.micro_batch\)"


@pytest.mark.parametrize(
    ("more", "notes"),
    [
        ((), []),
        (("hardware.processes=2",), [SHARES]),
        (("hardware.processes=2", "hardware.sync_batch_norm=true"), []),
        (("hardware.processes=2", "model.norm=group"), []),
        (("hardware.micro_batch=100",), [PARTS]),
        (("hardware.micro_batch=256",), []),  # as large as the largest batch
        (("hardware.micro_batch=100", "model.norm=group"), []),
        # shares of 128
        (("hardware.micro_batch=100", "hardware.processes=2"), [SHARES, PARTS]),
        (("hardware.micro_batch=128", "hardware.processes=2"), [SHARES]),
    ],
)
def test_notes_on_batch_norm_statistics(
    more: tuple[str, ...], notes: list[str], settings: Settings
) -> None:
    config = settings(*SHORT, "model=cnn_bn", *more)
    shown = prepare_task(config, build_plan(config)).notes()
    assert len(shown) == len(notes)
    assert all(re.search(pattern, note) for pattern, note in zip(notes, shown, strict=True))
