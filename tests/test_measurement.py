"""What a run measures and when: intervals, names in the record, rejected settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from accelerando.build import build_plan
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.measure import full_gradient
from accelerando.measure.chunks import split_into_chunks
from accelerando.measure.subset import SubsetGradient, subset_gradient
from accelerando.randomness import Purpose, generator
from accelerando.runs.folder import RunFolder
from accelerando.schedule import Progress
from accelerando.training.task import prepare_task
from helpers import SHORT, read_rows, train
from small_models import random_examples, tiny_mlp

Settings = Callable[..., RunSettings]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ((), [0, 1, 2, 3]),
        (("measure.every_epochs=2",), [0, 2, 3]),
        (("measure.epochs=[1]",), [0, 1, 3]),
        (("measure.every_steps=20",), [0, 0.890745, 2.890745, 3]),
    ],
)
def test_measurement_epochs(
    override: tuple[str, ...], expected: list[float], settings: Settings
) -> None:
    config = settings(*SHORT, *override)
    train(config)
    record = read_rows(RunFolder(run_folder(config)).record)
    assert [row["epoch"] for row in record] == pytest.approx(expected, abs=1e-5)
    plan = build_plan(config)
    assert record[-1]["step"] == plan.total_steps
    if "every_steps" in str(override):
        assert [row["step"] for row in record] == [0, 20, 40, plan.total_steps]


def test_nothing_is_due_between_measurements(settings: Settings) -> None:
    config = settings(*SHORT)
    measurement = prepare_task(config, build_plan(config)).measurement
    assert not measurement.due(Progress(0, 64, 1))


def test_all_measurements_in_one_run(settings: Settings) -> None:
    config = settings(
        *SHORT, "measure.per_layer=true", "measure.variance=true", "measure.published=true",
        "measure.sharpness_epochs=[0,3]", "measure.check=true", "measure.chunk=100",
    )  # fmt: skip
    plain = settings(*SHORT, "measure.chunk=100")
    for each in (config, plain):
        train(each)
    record, other = (read_rows(RunFolder(run_folder(each)).record) for each in (config, plain))
    for row, bare in zip(record, other, strict=True):
        assert {key: row[key] for key in bare} == bare  # measuring more changes nothing
        assert math.hypot(*row["layer_norms"].values()) == pytest.approx(row["full_gradient_norm"])
        assert row["noise_scale"] == pytest.approx(
            row["gradient_variance"] / row["full_gradient_norm"] ** 2
        )
        # without BatchNorm, the published norm differs only by the weight of the last batch
        assert row["paper_gradient_norm"] == pytest.approx(row["full_gradient_norm"], rel=0.3)
    assert ["sharpness" in row for row in record] == [True, False, False, True]


def test_sharpness_is_measured_at_its_own_epochs(settings: Settings) -> None:
    config = settings(*SHORT, "measure.every_epochs=3", "measure.sharpness_epochs=[1]")
    train(config)
    record = read_rows(RunFolder(run_folder(config)).record)
    assert [(row["epoch"], "sharpness" in row) for row in record] == [
        (0, False),
        (1, True),
        (3, False),
    ]


def test_sharpness_is_measured_if_the_variance_has_no_error(settings: Settings) -> None:
    """Fewer than eight chunks give a variance, but no error of it."""
    config = settings(
        *SHORT, "measure.variance=true", "measure.chunk=719", "measure.sharpness_epochs=[0]"
    )
    train(config)
    row = read_rows(RunFolder(run_folder(config)).record)[0]
    assert row["gradient_variance"] > 0
    assert row["gradient_variance_error"] is None
    assert row["sharpness"] > 0


def test_low_precision_values_have_names_of_their_own(settings: Settings) -> None:
    more = (
        "measure.per_layer=true", "measure.variance=true", "measure.sharpness_epochs=[0]",
        "epochs=1", "scheduler=decay_constant",
    )  # fmt: skip
    config, exact = (settings(*SHORT, *more, *dtype) for dtype in [["measure.dtype=bfloat16"], []])
    for each in (config, exact):
        train(each)
    rough, fine = (read_rows(RunFolder(run_folder(each)).record)[0] for each in (config, exact))
    same = {name for name in rough if name in fine}
    assert {name for name in rough if name not in same} == {
        "approximate_gradient_norm", "approximate_loss", "approximate_accuracy",
        "approximate_layer_norms", "approximate_gradient_variance",
        "approximate_gradient_variance_error", "approximate_noise_scale", "approximate_sharpness",
    }  # fmt: skip


def test_divergence_is_detected_whatever_is_measured(settings: Settings) -> None:
    config = settings(
        "model=mlp", "epochs=2", "scheduler=decay_constant", "measure.check=true",
        "measure.sharpness_epochs=[1]", "scheduler.batch_size.initial=1437",
        "scheduler.learning_rate.initial=1e30",
    )  # fmt: skip
    assert train(config).status == "diverged"


def test_a_subset_estimate_has_a_name_of_its_own(settings: Settings) -> None:
    config = settings(*SHORT, "measure.subset=300")
    state = train(config)
    record = read_rows(RunFolder(run_folder(config)).record)
    assert all("full_gradient_norm" not in row for row in record)
    assert all(row["subset_gradient_norm_error"] > 0 for row in record)
    assert state.full_gradient_norm is None


@pytest.mark.parametrize(
    ("overrides", "sizes"),
    [
        (("model=cnn_bn",), {500}),  # statistics of smaller chunks are another yardstick
        (("model=cnn_bn", "measure.batch_norm=running"), {62, 63}),
        ((), {62, 63}),
    ],
)
def test_a_subset_is_measured_in_chunks_of_the_same_size(
    overrides: tuple[str, ...], sizes: set[int], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()

    def spy(model: Any, chunks: Any, **more: Any) -> SubsetGradient:
        seen.update(map(len, chunks.indices))
        return subset_gradient(model, chunks, **more)

    monkeypatch.setattr("accelerando.training.measurement.subset_gradient", spy)
    train(settings(*SHORT, "measure.subset=1000", "measure.epochs=[]", *overrides, "epochs=1",
                   "scheduler=decay_constant"))  # fmt: skip
    assert seen == sizes


@pytest.mark.parametrize("batch_norm", ["batch", "running"])
def test_a_row_holds_the_measured_values(batch_norm: str, settings: Settings) -> None:
    """The first row, recomputed: chunks from the seed of the run, accuracy on the test set."""
    config = settings(
        "model=cnn_bn", "epochs=1", "scheduler=decay_constant", "seed=3", "measure.chunk=100",
        f"measure.batch_norm={batch_norm}",
    )  # fmt: skip
    train(config)
    row = read_rows(RunFolder(run_folder(config)).record)[0]
    task = prepare_task(config, build_plan(config))
    (images, labels), (others, right) = (next(data.read([slice(None)])) for data in task.data)
    order = torch.from_numpy(generator(3, Purpose.CHUNKS).permutation(len(labels)))
    exact = full_gradient(task.model, images, labels, chunk=100, batch_norm=batch_norm, order=order)
    assert row["full_gradient_norm"] == exact.norm
    with torch.no_grad():
        scores = task.model.eval()(others)
    assert row["test_loss"] == pytest.approx(float(cross_entropy(scores, right)), rel=1e-5)
    assert row["test_accuracy"] == pytest.approx(float((scores.argmax(1) == right).double().mean()))


def test_chunks_do_not_depend_on_the_schedule(settings: Settings) -> None:
    """At the same weights the norm is the same, whatever the batch size of the schedule."""
    measured = []
    for scheduler in ("decay_constant", "warmup_increase"):
        config = settings(*SHORT, f"scheduler={scheduler}", "model=cnn_bn", "measure.chunk=100")
        train(config)
        measured.append(read_rows(RunFolder(run_folder(config)).record)[0]["full_gradient_norm"])
    assert measured[0] == measured[1]


def test_chunks_are_checked_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Any] = []

    def spy(*given: Any, **more: Any) -> Any:
        orders.append(more.get("order"))
        return split_into_chunks(*given, **more)

    monkeypatch.setattr("accelerando.training.measurement.split_into_chunks", spy)
    train(settings(*SHORT))
    assert sum(order is not None for order in orders) == 1


def test_measure_check_stops_the_run_if_two_passes_differ(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*SHORT, "measure.check=true")
    results = iter(range(100))

    def drifting(*_: Any, **__: Any) -> Any:
        return full_gradient(tiny_mlp(), *random_examples(5 + next(results), side=4, classes=3))

    monkeypatch.setattr("accelerando.training.measurement.full_gradient_of_chunks", drifting)
    with pytest.raises(RuntimeError, match="two passes over the same weights differ"):
        train(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("measure.variance=true", "model=cnn_bn"), "BatchNorm couples the examples"),
        (("measure.variance=true", "measure.chunk=1437"), "needs at least two chunks"),
        (
            ("measure.subset=300", "model=cnn_bn"),
            r"measure\.subset=300 must be above measure\.chunk",
        ),
        (("measure.chunk=1", "model=resnet18"), "set a larger measure.chunk"),
        (("measure.chunk=1", "model=resnet18", "measure.subset=8"), "set a larger measure.chunk"),
        (("measure.subset=1438",), "measure.subset must be from 2 to 1437 examples, got 1438"),
    ],
)
def test_rejected_before_a_folder_is_created(
    overrides: tuple[str, ...], message: str, settings: Settings
) -> None:
    config = settings(*SHORT, *overrides)
    with pytest.raises(UsageError, match=message):
        train(config)
    assert not run_folder(config).exists()


def test_first_and_last_step_are_always_measured(settings: Settings) -> None:
    config = settings(*SHORT, "measure.epochs=[]")
    plan = build_plan(config)
    measurement = prepare_task(config, plan).measurement
    due = [position for position in plan.positions() if measurement.due(position)]
    assert due == [Progress()]
    assert measurement.due(plan.at(3, 0))


def test_a_sweep_is_rejected_before_its_first_run(settings: Settings) -> None:
    from accelerando.launch.preflight import preflight

    def check(*runs: RunSettings, devices: bool) -> str | None:
        return preflight([(config, build_plan(config)) for config in runs], devices=devices)

    fine, coupled = settings(), settings("measure.variance=true", "model=cnn_bn")
    assert check(fine, devices=True) is None
    assert "BatchNorm couples the examples" in str(check(fine, coupled, devices=True))
    single = settings("measure.chunk=1", "model=resnet18")
    assert "with measure.chunk=1 a chunk has a single example" in str(
        check(fine, single, devices=False)
    )
    # 4 x 359 + 1 examples
    left = settings(
        "model=resnet18", "scheduler=decay_constant", "scheduler.batch_size.initial=359"
    )
    message = "with batches of 359 of 1437 examples"
    assert message in str(check(fine, left, devices=False))
    assert "precision=tf32 needs an NVIDIA GPU" in str(
        check(settings("precision=tf32"), devices=True)
    )
