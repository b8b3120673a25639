"""The bound agrees with hand computation; where it is undefined; where two bounds cross."""

from __future__ import annotations

import math

import pytest

from accelerando.schedule import (
    Constant,
    ConstantBatch,
    Exponential,
    ExponentialBatch,
    Problem,
    Scheduler,
    Terms,
    bound,
    crossing,
    growth_warning,
)

PROBLEM = Problem(smoothness=4.0, variance=3.0, gap=2.0)


def test_bound_of_a_constant_schedule_is_the_textbook_bound() -> None:
    """For constant b and η: 2 gap / ((2 - L η) η T) + L σ² η / ((2 - L η) b)."""
    plan = Scheduler(batch_size=ConstantBatch(initial=5), learning_rate=Constant(initial=0.1)).bind(
        examples=50, epochs=7
    )
    result = bound(plan.terms(), PROBLEM)
    assert result.bias == pytest.approx(2 * 2.0 / (1.6 * 0.1 * 70))
    assert result.variance == pytest.approx(4.0 * 3.0 * 0.1 / (1.6 * 5))
    assert result.total == result.bias + result.variance


@pytest.mark.parametrize("rate", [0.5, 0.6])
def test_bound_is_undefined_for_large_learning_rates(rate: float) -> None:
    with pytest.raises(ValueError, match=r"must be below 2 / L = 0\.5"):
        bound(Terms(0.1, 0.1, rate), PROBLEM)
    assert math.isfinite(bound(Terms(0.1, 0.1, 0.4999), PROBLEM).total)


def test_problem_rejects_values_out_of_range() -> None:
    with pytest.raises(ValueError, match="smoothness must be above 0"):
        Problem(smoothness=0, variance=1, gap=1)
    with pytest.raises(ValueError, match="variance must be at least 0"):
        Problem(smoothness=1, variance=-1, gap=1)


def test_bounds_of_a_growing_and_a_constant_batch_size_cross() -> None:
    """``crossing`` finds the first crossing that a table of both bounds shows."""
    growing = Scheduler(
        batch_size=ExponentialBatch(initial=1, growth=2, interval=2),
        learning_rate=Constant(initial=0.2),
    )
    constant = Scheduler(batch_size=ConstantBatch(initial=64), learning_rate=Constant(initial=0.02))
    growing_is_lower = {}
    for stages in range(1, 12):
        plans = [s.bind(examples=1024, epochs=2 * stages) for s in (growing, constant)]
        growing_total, constant_total = (bound(plan.terms(), PROBLEM).total for plan in plans)
        growing_is_lower[2 * stages] = growing_total < constant_total

    def first_crossing(lower: dict[int, bool]) -> int | None:
        first_above = next((epochs for epochs, is_lower in lower.items() if not is_lower), math.inf)
        later = (epochs for epochs, is_lower in lower.items() if is_lower and epochs > first_above)
        return next(later, None)

    constant_is_lower = {epochs: not lower for epochs, lower in growing_is_lower.items()}
    crossings = []
    for pair, lower in (
        ((constant, growing), constant_is_lower),
        ((growing, constant), growing_is_lower),
    ):
        epochs = crossing(*pair, PROBLEM, examples=1024, interval=2, stages=range(1, 12))
        assert epochs == first_crossing(lower)
        crossings.append(epochs)
    assert crossings != [None, None]


def test_growth_warning_if_the_learning_rate_outgrows_the_batch_size() -> None:
    def is_warned(batch: float, rate: float, interval: int = 30) -> bool:
        scheduler = Scheduler(
            batch_size=ExponentialBatch(initial=8, growth=batch, interval=30),
            learning_rate=Exponential(initial=0.1, growth=rate, interval=interval),
        )
        warning = growth_warning(scheduler, 300)
        assert warning is None or warning.endswith(
            f"{rate:.4g}² every {interval} epochs and {batch} every 30"
        )
        return warning is not None

    assert not is_warned(2, 1.4)
    assert is_warned(2, math.sqrt(2) + 1e-12)
    assert is_warned(3, 1.8)
    assert not is_warned(3, 1.5)
    assert not is_warned(4, 1.9)  # published
    assert is_warned(2, 1.4, interval=10)  # the learning rate grows three times as often
    constant = Scheduler(batch_size=ConstantBatch(initial=8), learning_rate=Constant(initial=0.1))
    assert growth_warning(constant, 300) is None
