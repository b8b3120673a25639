"""BatchNorm when a batch, or a process's or micro-batch's part of it, is a single example."""

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
from accelerando.training.task import prepare_task, seeded_model
from helpers import SHORT, train

Settings = Callable[..., RunSettings]
SINGLE_PIXEL_MAPS = ("model=resnet18", "scheduler=decay_constant")
"""On digits the feature maps of the last stage are 1 x 1."""


def test_a_last_batch_of_one_example_is_rejected_before_the_run(settings: Settings) -> None:
    config = settings(*SINGLE_PIXEL_MAPS, "scheduler.batch_size.initial=359")  # 4 x 359 + 1
    with pytest.raises(UsageError, match=r"^BatchNorm needs .* batches of 359 of 1437 examples"):
        train(config)
    assert not run_folder(config).exists()


@pytest.mark.parametrize(
    "overrides",
    [
        "scheduler.batch_size.initial=1",
        "scheduler.batch_size.initial=3 hardware.processes=2",
        "scheduler.batch_size.initial=3 hardware.micro_batch=2",
        "scheduler.batch_size.initial=359 hardware.processes=2 hardware.sync_batch_norm=true",
    ],
)
def test_a_pass_over_one_example_is_rejected(overrides: str, settings: Settings) -> None:
    config = settings(*SINGLE_PIXEL_MAPS, *overrides.split())
    model = seeded_model(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError, match="it would see a single example"):
        check_batches(build_plan(config), config.hardware, model, config.dataset.shape)
    after = model.state_dict()
    assert all(before[name].equal(after[name]) for name in before)
    with pytest.raises(UsageError, match="it would see a single example"):
        prepare_task(config, build_plan(config))


@pytest.mark.parametrize(
    "overrides",
    [
        "scheduler.batch_size.initial=64",
        "scheduler.batch_size.initial=3 hardware.processes=2 hardware.sync_batch_norm=true",
        "scheduler.batch_size.initial=359 model.norm=group",
    ],
)
def test_passes_over_more_examples_are_accepted(overrides: str, settings: Settings) -> None:
    config = settings(*SINGLE_PIXEL_MAPS, *overrides.split())
    prepare_task(config, build_plan(config))


def test_one_example_with_larger_feature_maps_is_accepted(settings: Settings) -> None:
    last_batch = ("scheduler=decay_constant", "scheduler.batch_size.initial=359", "model=cnn_bn")
    assert train(settings(*SHORT, *last_batch, "epochs=1")).status == "finished"


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("micro_batch", [None, 1, 2, 3, 5])
def test_smallest_micro_batch_is_the_smallest_pass_of_a_step(
    processes: int, micro_batch: int | None
) -> None:
    sizes: list[int] = []
    model = Mlp((1, 1, 1), 2, [2])
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    step = SgdStep(model, micro_batch=micro_batch)
    for batch_size in range(1, 20):
        images, labels = torch.zeros(batch_size, 1), torch.zeros(batch_size, dtype=torch.int64)
        sizes.clear()
        for rank in range(processes):
            share = Team(rank, processes).share(batch_size)
            step.gradients(images[share], labels[share], batch_size)
        assert smallest_micro_batch(batch_size, processes, micro_batch) == min(sizes)
