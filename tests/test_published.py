"""Published yardsticks against loops that are written as their authors' code works."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.build import build_plan
from accelerando.checks import UsageError
from accelerando.config import RunSettings, Yardstick
from accelerando.identity import run_folder, run_id
from accelerando.measure import full_gradient, published_gradient_norm
from accelerando.measure.chunks import Chunks, TensorExamples
from accelerando.measure.published import PUBLISHED
from accelerando.models import Cnn
from accelerando.runs.folder import RunFolder
from accelerando.training.task import prepare_task
from helpers import SHORT, read_rows, train
from small_models import random_examples

Settings = Callable[..., RunSettings]
N = 60


def batches_of(size: int) -> Iterator[Tensor]:
    return iter(torch.split(torch.arange(N), size))


def author_norm(model: nn.Module, images: Tensor, labels: Tensor, size: int, name: str) -> float:
    """Accumulate ``p.grad`` over batches as the authors do, in float64."""
    model = copy.deepcopy(model).double()
    model.train(name != "tracking_cbs")
    total = [torch.zeros_like(p) for p in model.parameters()]
    for indices in batches_of(size):
        model.zero_grad()
        reduction = "mean" if name == "paper" else "sum"
        output = model(images[indices].double())
        cross_entropy(output, labels[indices], reduction=reduction).backward()
        factor = size / N if name == "paper" else 1 / N
        for full, p in zip(total, model.parameters(), strict=True):
            assert p.grad is not None
            full += factor * p.grad
    return float(torch.cat([g.flatten() for g in total]).norm())


@pytest.mark.parametrize("size", [7, 20, 60])
@pytest.mark.parametrize("name", PUBLISHED)
def test_yardstick_equals_the_loop_of_its_authors(name: str, size: int) -> None:
    images, labels = random_examples(N, side=4, classes=3)
    torch.manual_seed(1)
    model = Cnn((1, 4, 4), 3, [4], "batch").train()
    model(images + 1)  # running statistics that differ from those of the batches
    state = copy.deepcopy(model.state_dict())
    batches = Chunks(TensorExamples(images, labels), list(batches_of(size)))
    _, batch_norm, equal_weights = PUBLISHED[name]
    norm = published_gradient_norm(
        model, batches, batch_norm=batch_norm, equal_weights=equal_weights
    )
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert norm == pytest.approx(author_norm(model, images, labels, size, name), rel=1e-5)


def test_weights_of_the_paper_exceed_one_if_the_last_batch_is_smaller() -> None:
    """Nine batches of 7 of 60 examples: the weights add up to 63/60."""
    image, labels = torch.ones(1, 1, 4, 4), torch.zeros(N, dtype=torch.int64)
    images = image.repeat(N, 1, 1, 1)  # every batch has the same gradient
    model = Cnn((1, 4, 4), 3, [4], "none")
    batches = Chunks(TensorExamples(images, labels), list(batches_of(7)))
    exact = full_gradient(model, images, labels).norm
    assert published_gradient_norm(model, batches) == pytest.approx(exact * 63 / 60, rel=1e-5)


def test_yardsticks_of_a_run(settings: Settings) -> None:
    """Each has a column of its own; images are shuffled and augmented anew."""
    config = settings(
        *SHORT, "model=cnn_bn", "measure.published=[tracking_cbs,paper,adaptive_scheduler]",
        "+dataset.augmentation._target_=accelerando.data.augmentation.Augmentation",
        "+dataset.augmentation.crop=1",
    )  # fmt: skip
    train(config)
    columns = [f"{name}_gradient_norm" for name in PUBLISHED]
    rows = read_rows(RunFolder(run_folder(config)).record)
    assert all(row[name] > 0 for row in rows for name in columns)
    assert all(len({row[name] for name in columns}) == 3 for row in rows)
    task = prepare_task(config, plan := build_plan(config))
    positions = [plan.at(0, 0), plan.at(1, 0)]
    first, again, later = (
        task.measurement.measure(task.model, position)
        for position in (positions[0], positions[0], positions[1])
    )
    assert first == again
    assert first["full_gradient_norm"] == later["full_gradient_norm"]
    assert first["adaptive_scheduler_gradient_norm"] != later["adaptive_scheduler_gradient_norm"]


def test_names_of_yardsticks(settings: Settings) -> None:
    assert set(PUBLISHED) == {yardstick.value for yardstick in Yardstick}
    default, on, off = (
        settings(*f"measure.published={v}".split()) for v in ("[]", "true", "false")
    )
    assert on.measure.published == ["paper"]
    assert run_id(off) == run_id(default) == run_id(settings())
    assert run_id(on) != run_id(off)
    with pytest.raises(UsageError, match="a list of paper, adaptive_scheduler, tracking_cbs, got"):
        settings("measure.published=[x]")
