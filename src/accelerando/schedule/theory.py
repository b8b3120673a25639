"""The theoretical bound on the full gradient norm, computed from a plan before training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from accelerando.checks import check_at_least, check_positive
from accelerando.schedule.batch_size import ExponentialBatch
from accelerando.schedule.learning_rate import Exponential
from accelerando.schedule.plan import Plan, Scheduler, Terms


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Constants of the loss that the bound depends on.

    Args:
        smoothness: Lipschitz constant of the gradient, L, above 0.
        variance: variance of the per-example gradient, σ², at least 0.
        gap: initial optimality gap, f(θ_0) - f*, at least 0.

    Raises:
        ValueError: a value is out of range.
    """

    smoothness: float
    variance: float
    gap: float

    def __post_init__(self) -> None:
        check_positive("smoothness", self.smoothness)
        check_at_least("variance", self.variance, 0)
        check_at_least("gap", self.gap, 0)


@dataclass(frozen=True)
class Bound:
    """The two terms of an upper bound on min_t E‖∇f(θ_t)‖²."""

    bias: float
    variance: float

    @property
    def total(self) -> float:
        return self.bias + self.variance


def bound(terms: Terms, problem: Problem) -> Bound:
    """Return the bound on min_t E‖∇f(θ_t)‖² over the steps that ``terms`` cover.

    2 (f(θ_0) - f*) / (2 - L η_max) B_T + L σ² / (2 - L η_max) V_T
    (Umeda and Iiduka, arXiv 2409.08770). Note that it bounds the squared norm.

    Raises:
        ValueError: η_max is at least 2 / L, for which the bound is undefined.

    >>> bound(Terms(bias=0.01, variance=0.001, largest_rate=0.1), Problem(
    ...     smoothness=10, variance=2, gap=3))
    Bound(bias=0.06, variance=0.02)
    """
    limit = 2 / problem.smoothness
    if terms.largest_rate >= limit:
        raise ValueError(
            f"no bound: the largest learning rate must be below 2 / L = {limit:.4g}, "
            f"got {terms.largest_rate:.4g}"
        )
    slack = 2 - problem.smoothness * terms.largest_rate
    return Bound(
        2 * problem.gap / slack * terms.bias,
        problem.smoothness * problem.variance / slack * terms.variance,
    )


class Bindable(Protocol):
    """Anything that can be fitted to a run, such as ``Scheduler`` and ``Seesaw``."""

    def bind(self, *, examples: int, epochs: int) -> Plan: ...


def crossing(
    first: Bindable,
    second: Bindable,
    problem: Problem,
    *,
    examples: int,
    interval: int,
    stages: Iterable[int],
) -> int | None:
    """Return the run length at which the bound of ``first`` drops below that of ``second``.

    Args:
        first: the scheduler whose bound should become the lower one.
        second: the scheduler to compare it with.
        problem: constants of the loss.
        examples: training examples.
        interval: length of a stage in epochs.
        stages: numbers of stages, ascending; both schedulers are fitted to a run of each length.

    Returns:
        The shortest run length in epochs at which ``first`` has the lower bound although it had not
        at a shorter length, or None. Lengths that either scheduler does not fit, or for which its
        bound is undefined, are skipped.
    """
    was_above = False
    for count in stages:
        epochs = interval * count
        try:
            totals = [
                bound(scheduler.bind(examples=examples, epochs=epochs).terms(), problem).total
                for scheduler in (first, second)
            ]
        except ValueError:
            continue
        if totals[0] < totals[1] and was_above:
            return epochs
        was_above = was_above or totals[0] >= totals[1]
    return None


def growth_warning(scheduler: Scheduler, epochs: int) -> str | None:
    """Return a warning if the learning rate grows too fast for the batch size, else None.

    If both grow exponentially, by γ and δ per stage, convergence requires γ² < δ.
    """
    sizes, rates = scheduler.batch_size, scheduler.learning_rate
    if not (isinstance(sizes, ExponentialBatch) and isinstance(rates, Exponential)):
        return None
    # compare growth per epoch, since the two may have stages of different lengths
    squared = rates.factor(epochs) ** (2 / rates.interval)
    if squared < sizes.factor(epochs) ** (1 / sizes.interval) or squared == 1:
        return None
    return (
        "the learning rate grows too fast for the batch size: convergence requires the square of "
        "its growth factor to be below that of the batch size over the same number of epochs, got "
        f"{rates.factor(epochs):.4g}² every {rates.interval} epochs and "
        f"{sizes.factor(epochs):.4g} every {sizes.interval}"
    )
