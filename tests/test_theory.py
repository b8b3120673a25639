"""The bound by hand, where it is defined, and when one passes below another."""

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


def test_the_bound_of_a_constant_schedule_is_the_textbook_one() -> None:
    """With b and η constant: 2 gap / ((2 - L η) η T) + L σ² η / ((2 - L η) b)."""
    plan = Scheduler(batch_size=ConstantBatch(initial=5), learning_rate=Constant(initial=0.1)).bind(
        examples=50, epochs=7
    )
    found = bound(plan.terms(), PROBLEM)
    assert found.bias == pytest.approx(2 * 2.0 / (1.6 * 0.1 * 70))
    assert found.variance == pytest.approx(4.0 * 3.0 * 0.1 / (1.6 * 5))
    assert found.total == found.bias + found.variance


@pytest.mark.parametrize("rate", [0.5, 0.6])
def test_no_bound_where_the_rate_is_too_large(rate: float) -> None:
    with pytest.raises(ValueError, match=r"must be below 2 / L = 0\.5"):
        bound(Terms(0.1, 0.1, rate), PROBLEM)
    assert math.isfinite(bound(Terms(0.1, 0.1, 0.4999), PROBLEM).total)


def test_a_problem_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="smoothness must be above 0"):
        Problem(smoothness=0, variance=1, gap=1)
    with pytest.raises(ValueError, match="variance must be at least 0"):
        Problem(smoothness=1, variance=-1, gap=1)


def test_a_growing_batch_passes_below_a_constant_one() -> None:
    """A larger rate is worse in variance and better in bias: the growing batch wins in the end."""
    growing = Scheduler(
        batch_size=ExponentialBatch(initial=1, growth=2, interval=2),
        learning_rate=Constant(initial=0.2),
    )
    constant = Scheduler(batch_size=ConstantBatch(initial=64), learning_rate=Constant(initial=0.02))
    totals = {}
    for stages in range(1, 12):
        plans = [s.bind(examples=1024, epochs=2 * stages) for s in (growing, constant)]
        totals[2 * stages] = [bound(plan.terms(), PROBLEM).total for plan in plans]
    below = [epochs for epochs, (first, second) in totals.items() if first < second]
    found = crossing(constant, growing, PROBLEM, examples=1024, interval=2, stages=range(1, 12))
    above = [epochs for epochs in totals if epochs not in below]
    first_after = [e for e in above if any(b < e for b in below)]
    assert found == (min(first_after) if first_after else None)
    again = crossing(growing, constant, PROBLEM, examples=1024, interval=2, stages=range(1, 12))
    expected = [e for e in below if any(a < e for a in above)]
    assert again == (min(expected) if expected else None)
    assert found is not None or again is not None


def test_a_rate_that_outgrows_its_batch_is_warned_of() -> None:
    def warned(batch: float, rate: float, interval: int = 30) -> bool:
        scheduler = Scheduler(
            batch_size=ExponentialBatch(initial=8, growth=batch, interval=30),
            learning_rate=Exponential(initial=0.1, growth=rate, interval=interval),
        )
        words = growth_warning(scheduler, 300)
        assert words is None or words.endswith(
            f"{rate:.4g}² every {interval} epochs and {batch} every 30"
        )
        return words is not None

    assert not warned(2, 1.4)
    assert warned(2, math.sqrt(2) + 1e-12)
    assert warned(3, 1.8)
    assert not warned(3, 1.5)
    assert not warned(4, 1.9)  # published
    assert warned(2, 1.4, interval=10)  # three rises for each of the batch
    constant = Scheduler(batch_size=ConstantBatch(initial=8), learning_rate=Constant(initial=0.1))
    assert growth_warning(constant, 300) is None
