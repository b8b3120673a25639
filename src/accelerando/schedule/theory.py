"""The paper's bound on the full gradient norm: what a schedule promises before it is run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from accelerando.checks import number, positive
from accelerando.schedule.batch_size import ExponentialBatch
from accelerando.schedule.learning_rate import Exponential
from accelerando.schedule.plan import Plan, Terms
from accelerando.schedule.scheduler import Scheduler


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What the bound needs to know of the loss.

    Args:
        smoothness: L, Lipschitz constant of the gradient, above 0.
        variance: σ², variance of the per-example gradient, at least 0.
        gap: f(θ_0) - f*, at least 0.

    Raises:
        ValueError: a value is out of range.
    """

    smoothness: float
    variance: float
    gap: float

    def __post_init__(self) -> None:
        positive("smoothness", self.smoothness)
        for name in ("variance", "gap"):
            if number(name, getattr(self, name)) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Bound:
    """Upper bound of min_t E‖∇f(θ_t)‖², in two parts."""

    bias: float
    variance: float

    @property
    def total(self) -> float:
        return self.bias + self.variance


def bound(terms: Terms, problem: Problem) -> Bound:
    """Bound of min_t E‖∇f(θ_t)‖² over the steps that ``terms`` were taken of.

    2 (f(θ_0) - f*) / (2 - L η_max) B_T + L σ² / (2 - L η_max) V_T
    (Umeda and Iiduka, arXiv 2409.08770). It is on the squared norm.

    Raises:
        ValueError: η_max is not below 2 / L, where the bound is not defined.

    >>> bound(Terms(bias=0.01, variance=0.001, largest_rate=0.1), Problem(
    ...     smoothness=10, variance=2, gap=3))
    Bound(bias=0.06, variance=0.02)
    """
    limit = 2 / problem.smoothness
    if terms.largest_rate >= limit:
        raise ValueError(
            f"no bound: the largest rate must be below 2 / L = {limit:.4g}, "
            f"it is {terms.largest_rate:.4g}"
        )
    slack = 2 - problem.smoothness * terms.largest_rate
    return Bound(
        2 * problem.gap / slack * terms.bias,
        problem.smoothness * problem.variance / slack * terms.variance,
    )


class Bindable(Protocol):
    """A scheduler of any kind."""

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
    """Epochs at which the bound of ``first`` passes below that of ``second``, as stages are added.

    Runs of ``interval`` epochs times each of ``stages`` are compared, each fitted anew.

    Returns:
        The length of the first run where ``first`` is lower after one where it was not; None where
        that does not happen. Lengths at which either has no bound, or does not fit, are passed by.
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
    """A sentence where the rate grows too fast for its batch, γ² >= δ; else None.

    With both growing exponentially by γ and δ in stages, convergence wants γ² < δ.
    """
    sizes, rates = scheduler.batch_size, scheduler.learning_rate
    if not (isinstance(sizes, ExponentialBatch) and isinstance(rates, Exponential)):
        return None
    # per epoch, since the two may have stages of other lengths
    squared = rates.factor(epochs) ** (2 / rates.interval)
    if squared < sizes.factor(epochs) ** (1 / sizes.interval) or squared == 1:
        return None
    return (
        f"the learning rate grows too fast for its batch: convergence wants (rate factor)² below "
        f"the batch factor over the same epochs, these are {rates.factor(epochs):.4g}² every "
        f"{rates.interval} epochs and {sizes.factor(epochs):.4g} every {sizes.interval}"
    )
