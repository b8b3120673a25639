"""The rows of a run: positions, settings and values, and what ends it as diverged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from accelerando.build import build_plan, load_data
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder
from accelerando.training.step import SgdStep
from accelerando.training.task import seeded_model
from helpers import SHORT, read_rows, train, weights

Settings = Callable[..., RunSettings]


def test_the_record_follows_the_plan(settings: Settings) -> None:
    config = settings(*SHORT)
    assert train(config).status == "finished"
    folder, plan = RunFolder(run_folder(config)), build_plan(config)
    record, steps = read_rows(folder.record), read_rows(folder.steps)
    assert [row["epoch"] for row in record] == [0, 1, 2, 3]
    assert [row["step"] for row in record] == plan.first_steps.tolist()
    assert [row["examples"] for row in record] == [0, 1437, 2874, 4311]
    assert [row["batch_size"] for row in record] == [64, 64, 128, 256]
    assert list(record[0]) == [
        "epoch", "step", "examples", "batch_size", "learning_rate", "full_gradient_norm",
        "empirical_loss", "train_accuracy", "test_loss", "test_accuracy",
    ]  # fmt: skip
    assert all(json.loads(line)["seconds"] > 0 for line in folder.record.read_text().splitlines())
    assert record[-1]["empirical_loss"] < 0.5 * record[0]["empirical_loss"]
    used = {0: plan.setting(next(plan.positions()))} | {
        position.step + 1: plan.setting(position) for position in plan.positions()
    }
    for row in [*record, *steps]:
        assert (row["batch_size"], row["learning_rate"]) == used[row["step"]]
    assert {row["step"] for row in steps} == {
        *range(10, plan.total_steps + 1, 10),
        *plan.first_steps[1:].tolist(),
    }
    state = folder.read_state()
    assert state is not None
    assert state.full_gradient_norm == min(row["full_gradient_norm"] for row in record)


@pytest.mark.parametrize("model", ["cnn", "cnn_bn"])
def test_the_last_row_matches_the_final_weights(model: str, settings: Settings) -> None:
    """Recorded values against float64 autograd on data normalised by hand."""
    config = settings(*SHORT, f"model={model}", "epochs=2", "measure.batch_norm=running")
    train(config)
    folder = RunFolder(run_folder(config))
    network = seeded_model(config).eval()
    network.load_state_dict(weights(folder))
    network.double()
    arrays = load_data(config)
    row, pixels = read_rows(folder.record)[-1], arrays.train_images.astype(np.float64)
    losses = {}
    for name, images, labels in (
        ("train", arrays.train_images, arrays.train_labels),
        ("test", arrays.test_images, arrays.test_labels),
    ):
        inputs = torch.tensor((images - pixels.mean()) / pixels.std())
        scores, targets = network(inputs), torch.tensor(labels)
        losses[name] = torch.nn.functional.cross_entropy(scores, targets)
        right = float((scores.argmax(1) == targets).double().mean())
        assert row[f"{name}_accuracy"] == pytest.approx(right)
    gradients = torch.autograd.grad(losses["train"], list(network.parameters()))
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    assert row["full_gradient_norm"] == pytest.approx(float(norm), rel=1e-5)
    assert row["empirical_loss"] == pytest.approx(float(losses["train"].detach()), rel=1e-5)
    assert row["test_loss"] == pytest.approx(float(losses["test"].detach()), rel=1e-5)


def test_the_training_loss_is_the_mean_since_the_last_row(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[tuple[float, int]] = []

    class Watched(SgdStep):
        def __call__(
            self, images: Any, labels: Any, learning_rate: float, count: int | None = None
        ) -> torch.Tensor:
            loss = super().__call__(images, labels, learning_rate, count)
            sums.append((float(loss), len(labels)))
            return loss

    monkeypatch.setattr("accelerando.training.task.SgdStep", Watched)
    config = settings(*SHORT)
    train(config)
    last = 0
    for row in read_rows(RunFolder(run_folder(config)).steps):
        window = sums[last : row["step"]]
        mean = math.fsum(loss for loss, _ in window) / sum(count for _, count in window)
        assert row["train_loss"] == pytest.approx(mean, rel=1e-6)
        last = row["step"]
    assert sum(count for _, count in sums) == 3 * 1437


def test_a_diverging_run_is_recorded_as_diverged(settings: Settings) -> None:
    config = settings(
        *SHORT, "scheduler/learning_rate=constant", "scheduler.learning_rate.initial=1e30"
    )
    assert train(config).status == "diverged"
    folder = RunFolder(run_folder(config))
    state = folder.read_state()
    assert state is not None
    assert (state.status, state.epoch) == ("diverged", 0)
    assert read_rows(folder.steps)[-1]["train_loss"] is None
    assert train(config).status == "diverged"  # it is not tried again


def test_divergence_found_by_a_measurement_keeps_the_minimum(settings: Settings) -> None:
    config = settings(
        "model=mlp", "epochs=2", "scheduler=decay_constant",
        "scheduler.batch_size.initial=1437", "scheduler.learning_rate.initial=1e30",
    )  # fmt: skip
    state = train(config)
    assert state.status == "diverged"
    folder = RunFolder(run_folder(config))
    first, *_, last = read_rows(folder.record)
    assert last["full_gradient_norm"] is None
    assert state.full_gradient_norm == first["full_gradient_norm"]
    assert "NaN" not in folder.state.read_text()
