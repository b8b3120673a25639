"""BatchNorm where a batch, or a part of it, is a single example."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from accelerando.build import build_plan
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.distributed import Team
from accelerando.identity import run_folder
from accelerando.models import Mlp
from accelerando.training.batch_norm import check_batches, smallest_micro_batch
from accelerando.training.step import SgdStep
from accelerando.training.task import Task, prepare_task, seeded_model
from test_run import SHORT, train

Settings = Callable[..., RunSettings]
SMALLEST_MAPS = ("model=resnet18", "scheduler=decay_constant")
"""Of digits, the feature maps of the last stage are single values."""


def task(config: RunSettings) -> Task:
    return prepare_task(config, build_plan(config))


def test_a_last_batch_of_one_is_refused_before_the_run(settings: Settings) -> None:
    config = settings(*SMALLEST_MAPS, "scheduler.batch_size.initial=359")  # 4 x 359 + 1
    with pytest.raises(UsageError, match=r"^BatchNorm has no .* batches of 359 of 1437 examples"):
        train(config)
    assert not run_folder(config).exists()


@pytest.mark.parametrize(
    "more",
    [
        "scheduler.batch_size.initial=1",
        "scheduler.batch_size.initial=3 hardware.processes=2",
        "scheduler.batch_size.initial=3 hardware.micro_batch=2",
        "scheduler.batch_size.initial=359 hardware.processes=2 hardware.sync_batch_norm=true",
    ],
)
def test_so_is_a_part_of_one(more: str, settings: Settings) -> None:
    config = settings(*SMALLEST_MAPS, *more.split())
    model = seeded_model(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError, match="which batches of"):
        check_batches(build_plan(config), config.hardware, model, config.dataset.shape)
    after = model.state_dict()
    assert all(before[name].equal(after[name]) for name in before)
    with pytest.raises(UsageError, match="which batches of"):
        task(config)


@pytest.mark.parametrize(
    "more",
    [
        "scheduler.batch_size.initial=64",
        "scheduler.batch_size.initial=3 hardware.processes=2 hardware.sync_batch_norm=true",
        "scheduler.batch_size.initial=359 model.norm=group",
    ],
)
def test_others_are_not(more: str, settings: Settings) -> None:
    task(settings(*SMALLEST_MAPS, *more.split()))


def test_one_example_of_larger_maps_is_trained_on(settings: Settings) -> None:
    one_left = ("scheduler=decay_constant", "scheduler.batch_size.initial=359", "model=cnn_bn")
    assert train(settings(*SHORT, *one_left, "epochs=1")).status == "finished"


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("micro_batch", [None, 1, 2, 3, 5])
def test_the_smallest_part_is_that_of_a_step(processes: int, micro_batch: int | None) -> None:
    step = SgdStep(Mlp((1, 1, 1), 2, [2]), micro_batch=micro_batch)
    for count in range(1, 20):
        shares = [torch.arange(count)[Team(r, processes).share(count)] for r in range(processes)]
        sizes = [len(part) for s in shares for part, _ in step._parts(s, s) if len(part)]
        assert smallest_micro_batch(count, processes, micro_batch) == min(sizes)
