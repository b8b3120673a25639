"""Shapes of the learning rate: constant, decaying, growing, scaled with the batch, piecewise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from accelerando.checks import check_at_least, check_integer, check_number, check_positive
from accelerando.schedule.context import ScheduleContext
from accelerando.schedule.stages import EpochTable, StagedGrowth, check_growth, check_interval


@dataclass(frozen=True, kw_only=True)
class _FromInitial:
    """Base of the shapes that start at ``initial``, a learning rate above 0."""

    initial: float

    def __post_init__(self) -> None:
        check_positive("initial", self.initial)

    def check(self, *, epochs: int) -> None:
        """Accept any run length."""


@dataclass(frozen=True, kw_only=True)
class Constant(_FromInitial):
    """Constant learning rate: η_t = η_0."""

    def __call__(self, context: ScheduleContext) -> float:
        return self.initial


@dataclass(frozen=True, kw_only=True)
class InverseSqrt(_FromInitial):
    """Inverse square-root decay: η_t = η_0 / √(t + 1) at step t, counted from 0."""

    def __call__(self, context: ScheduleContext) -> npt.NDArray[np.float64]:
        return self.initial / np.sqrt(context.step + 1)


@dataclass(frozen=True, kw_only=True)
class Polynomial(_FromInitial):
    """Polynomial decay to 0: η_t = η_0 (1 - t / T)^p at step t of T.

    Args:
        initial: η_0, above 0.
        power: p, above 0; 1 is linear decay.
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("power", self.power)

    def __call__(self, context: ScheduleContext) -> npt.NDArray[np.float64]:
        return self.initial * np.power(1 - context.step / context.total_steps, self.power)


@dataclass(frozen=True, kw_only=True)
class Linear(_FromInitial):
    """Linear decay to 0: η_t = η_0 (1 - t / T) at step t of T."""

    def __call__(self, context: ScheduleContext) -> npt.NDArray[np.float64]:
        return np.asarray(self.initial * (1 - context.step / context.total_steps))


@dataclass(frozen=True, kw_only=True)
class Cosine(_FromInitial):
    """Cosine decay per epoch: η_e = η_min + (η_0 - η_min)(1 + cos(π e / E)) / 2 in epoch e of E.

    Args:
        initial: η_0, above 0.
        minimum: η_min, from 0 to ``initial``.
    """

    minimum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_minimum(self.minimum, "initial", self.initial)

    def __call__(self, context: ScheduleContext) -> float:
        share = (1 + math.cos(math.pi * context.epoch / context.epochs)) / 2
        return self.minimum + (self.initial - self.minimum) * share


@dataclass(frozen=True, kw_only=True)
class Exponential(_FromInitial):
    """Learning rate that grows by a constant factor every ``interval`` epochs.

    In stage m = epoch // interval of M = epochs / interval stages, η_m = η_0 γ^m. Given only
    ``final``, γ = (η_max / η_0)^(1 / (M - 1)); given both, the affine form of ``StagedGrowth``
    reaches ``final``, which is never exceeded.

    Args:
        initial: learning rate of the first stage, η_0, above 0.
        growth: factor from one stage to the next, γ, at least 1.
        final: learning rate of the last stage, η_max, at least ``initial``. If neither ``growth``
            nor ``final`` is given, it is twice ``initial``.
        interval: length of a stage in epochs, at least 1.
    """

    interval: int
    growth: float | None = None
    final: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("interval", self.interval, 1)
        if self.final is not None:
            check_number("final", self.final)
        check_growth(self.initial, self.growth, self.final)

    def check(self, *, epochs: int) -> None:
        check_interval(self.interval, epochs)

    def __call__(self, context: ScheduleContext) -> float:
        return self._growth.value(context.epoch, context.epochs)

    def factor(self, epochs: int) -> float:
        """Return γ, the growth factor per stage in a run of ``epochs`` epochs."""
        return self._growth.factor(epochs)

    @property
    def _growth(self) -> StagedGrowth:
        final = 2 * self.initial if self.growth is None and self.final is None else self.final
        return StagedGrowth(self.initial, self.growth, final, self.interval)


@dataclass(frozen=True, kw_only=True)
class BatchScaled(_FromInitial):
    """Learning rate scaled with the batch size: η_e = η_0 (b_e / b_0)^p.

    Args:
        initial: learning rate at the initial batch size b_0, above 0.
        power: p, above 0; 1 is linear scaling, 0.5 is square-root scaling.
        maximum: upper limit of the learning rate, if any.
    """

    power: float = 1.0
    maximum: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("power", self.power)
        if self.maximum is not None:
            check_at_least("maximum", self.maximum, self.initial)

    def __call__(self, context: ScheduleContext) -> float:
        ratio = context.batch_size / context.initial_batch_size
        rate = self.initial * float(ratio**self.power)
        return rate if self.maximum is None else min(rate, self.maximum)


@dataclass(frozen=True, kw_only=True)
class PiecewiseConstant:
    """Learning rate given as (epoch, rate) pairs; each rate applies from its epoch on."""

    values: Sequence[tuple[int, float]]

    def __post_init__(self) -> None:
        for _, rate in self._table.pairs:
            check_positive("a learning rate in values", rate)

    @cached_property
    def _table(self) -> EpochTable:
        return EpochTable(self.values)

    def check(self, *, epochs: int) -> None:
        self._table.check(epochs=epochs)

    def __call__(self, context: ScheduleContext) -> float:
        return self._table(context.epoch)


def check_minimum(minimum: float, top_name: str, top: float) -> None:
    """Raise ValueError unless ``minimum`` lies between 0 and the rate that decays to it."""
    check_at_least("minimum", minimum, 0)
    if minimum > top:
        raise ValueError(f"minimum must be at most {top_name} ({top:g}), got {minimum}")
