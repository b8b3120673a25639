"""Shapes of batch size and learning rate agree with hand computation and reject bad arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from accelerando.schedule import (
    BatchScaled,
    Constant,
    ConstantBatch,
    Cosine,
    Exponential,
    ExponentialBatch,
    LearningRate,
    LinearBatch,
    PiecewiseConstant,
    PiecewiseConstantBatch,
    Polynomial,
    Progress,
    Scheduler,
    WarmupConstant,
    WarmupLinear,
)


def sizes(shape: Any, epochs: int) -> list[int]:
    return [shape(epoch=epoch, epochs=epochs) for epoch in range(epochs)]


def rates(shape: LearningRate, epochs: int, batch_size: Any = None) -> list[float]:
    """First learning rate of each epoch; one step per epoch unless a batch size is given."""
    scheduler = Scheduler(batch_size=batch_size or ConstantBatch(initial=4), learning_rate=shape)
    plan = scheduler.bind(examples=4, epochs=epochs)
    return [plan.rates(epoch)[0] for epoch in range(epochs)]


def test_batch_size_is_not_rounded_up_by_floating_point_error() -> None:
    assert sizes(ExponentialBatch(initial=100, growth=1.1, interval=1), 2) == [100, 110]


def test_exponential_reaches_final() -> None:
    assert sizes(ExponentialBatch(initial=8, final=64, interval=1), 4) == [8, 16, 32, 64]
    # (64 - 8) / (4**3 - 1) * 4**m + 8 - 0.888...
    assert sizes(ExponentialBatch(initial=8, growth=4, final=64, interval=1), 4) == [8, 11, 22, 64]


def test_linear_and_piecewise_constant_and_maximum() -> None:
    assert sizes(LinearBatch(initial=8, growth=3, interval=2), 6) == [8, 8, 11, 11, 14, 14]
    assert sizes(LinearBatch(initial=8, final=10, interval=2), 5) == [8, 8, 9, 9, 10]
    assert sizes(PiecewiseConstantBatch(values=[(0, 2), (2, 7)]), 4) == [2, 2, 7, 7]
    clipped = ExponentialBatch(initial=8, growth=2, interval=1, maximum=20)
    assert sizes(clipped, 4) == [8, 16, 20, 20]


def test_unbounded_growth_stays_finite() -> None:
    shape = ExponentialBatch(initial=8, growth=2, interval=1)
    plan = Scheduler(batch_size=shape, learning_rate=Constant(initial=0.1)).bind(
        examples=50, epochs=3000
    )
    assert plan.batch_sizes[-1] == 50


def test_warmup_rises_in_stairs_to_the_peak() -> None:
    shape = WarmupConstant(initial=0.1, peak=0.4, warmup_epochs=6, warmup_interval=2)
    assert rates(shape, 8) == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.4, 0.4])
    by_growth = WarmupConstant(initial=0.1, growth=2, warmup_epochs=6, warmup_interval=2)
    assert rates(by_growth, 8) == pytest.approx(rates(shape, 8))


def test_decay_after_warmup_starts_at_the_end_of_the_warmup() -> None:
    shape = WarmupLinear(initial=0.1, peak=0.4, warmup_epochs=2, warmup_interval=1)
    assert rates(shape, 6) == pytest.approx([0.1, 0.4, 0.4, 0.3, 0.2, 0.1])


def test_batch_scaled_and_piecewise_constant_learning_rates() -> None:
    growing = ExponentialBatch(initial=1, growth=4, interval=1)
    assert rates(BatchScaled(initial=0.1, power=1), 2, growing) == pytest.approx([0.1, 0.4])
    assert rates(BatchScaled(initial=0.1, power=0.5), 2, growing) == pytest.approx([0.1, 0.2])
    assert rates(PiecewiseConstant(values=[(0, 0.3), (1, 0.1)]), 3) == [0.3, 0.1, 0.1]


def test_setting_is_a_pure_function_of_progress() -> None:
    plan = Scheduler(
        batch_size=ConstantBatch(initial=3), learning_rate=Polynomial(initial=1.0, power=2)
    ).bind(examples=10, epochs=3)
    last = plan.setting(Progress(2, 9, 11))
    plan.setting(Progress())
    assert plan.setting(Progress(2, 9, 11)) == last
    assert last.learning_rate == pytest.approx((1 - 11 / 12) ** 2)


WARMUP = {"initial": 0.1, "warmup_epochs": 4, "warmup_interval": 1}
INVALID: list[tuple[Callable[[], object], str]] = [
    (lambda: ConstantBatch(initial=0), "initial must be at least 1, got 0"),
    (lambda: ConstantBatch(initial=1.5), "initial must be an integer, got 1.5"),  # type: ignore[arg-type]
    (lambda: ExponentialBatch(initial=8, growth=0.5, interval=1), "growth must be at least 1"),
    (lambda: ExponentialBatch(initial=8, final=4, interval=1), "final must be at least initial"),
    (lambda: ExponentialBatch(initial=8, growth=1, final=9, interval=1), "never reaches final"),
    (lambda: ExponentialBatch(initial=8, growth=2, interval=0), "interval must be at least 1"),
    (lambda: LinearBatch(initial=8, growth=1, final=9, interval=1), "either growth"),
    (lambda: PiecewiseConstantBatch(values=[]), "at least one"),
    (lambda: PiecewiseConstantBatch(values=[(1, 8)]), "must start at 0"),
    (lambda: Constant(initial=-0.1), "initial must be above 0, got -0.1"),
    (lambda: Constant(initial=float("nan")), "initial must be a finite number"),
    (lambda: Constant(initial=float("inf")), "initial must be a finite number"),
    (lambda: Cosine(initial=0.1, minimum=0.2), "minimum must be at most initial"),
    (lambda: Exponential(initial=0.1, final=0.05, interval=1), "final must be at least initial"),
    (lambda: WarmupConstant(**WARMUP, peak=0.05), "peak must be at least initial"),
    (lambda: WarmupConstant(**WARMUP, peak=0.2, growth=2), "give either peak"),
    (lambda: WarmupConstant(**{**WARMUP, "warmup_interval": 4}, peak=0.2), "must be shorter than"),
]


@pytest.mark.parametrize(("make", "message"), INVALID, ids=[message for _, message in INVALID])
def test_invalid_arguments_are_rejected(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


UNSUITABLE = [
    (ConstantBatch(initial=11), Constant(initial=0.1), 1, "number of training examples .10., got"),
    (ExponentialBatch(initial=2, final=11, interval=1), Constant(initial=0.1), 4, "final must be"),
    (ExponentialBatch(initial=2, growth=2, interval=5), Constant(initial=0.1), 4, "interval must"),
    (
        ConstantBatch(initial=2),
        WarmupConstant(**WARMUP, peak=0.2),
        3,
        "warmup_epochs must be at most",
    ),
    (ConstantBatch(initial=2), PiecewiseConstant(values=[(0, 0.1), (4, 0.2)]), 4, "within the run"),
    (ConstantBatch(initial=2), Constant(initial=0.1), 0, "epochs must be at least 1, got 0"),
]


@pytest.mark.parametrize(("batch", "rate", "epochs", "message"), UNSUITABLE)
def test_shapes_that_do_not_fit_the_run_are_rejected(
    batch: Any, rate: LearningRate, epochs: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Scheduler(batch_size=batch, learning_rate=rate).bind(examples=10, epochs=epochs)
