"""Shapes of the learning rate: constant, decaying, growing, scaled with the batch, or a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from accelerando.checks import at_least, number, positive, stage_fits, whole
from accelerando.schedule.context import ScheduleContext
from accelerando.schedule.growth import Growth, check_growth
from accelerando.schedule.table import Table


@dataclass(frozen=True, kw_only=True)
class _FromInitial:
    """What all shapes share: they begin at ``initial``, a rate above 0."""

    initial: float

    def __post_init__(self) -> None:
        positive("initial", self.initial)

    def check(self, *, epochs: int) -> None:
        """Any length of run will do."""


@dataclass(frozen=True, kw_only=True)
class Constant(_FromInitial):
    """η_t = η_0."""

    def __call__(self, moment: ScheduleContext) -> float:
        return self.initial


@dataclass(frozen=True, kw_only=True)
class InverseSqrt(_FromInitial):
    """η_t = η_0 / √(t + 1), t counted in steps from the start of the run."""

    def __call__(self, moment: ScheduleContext) -> npt.NDArray[np.float64]:
        return self.initial / np.sqrt(moment.step + 1)


@dataclass(frozen=True, kw_only=True)
class Polynomial(_FromInitial):
    """η_t = η_0 (1 - t / T)^p, t counted in steps, T the steps of the run.

    Args:
        initial: η_0, above 0.
        power: p, above 0; 1 is linear decay.
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("power", self.power)

    def __call__(self, moment: ScheduleContext) -> npt.NDArray[np.float64]:
        return self.initial * np.power(1 - moment.step / moment.steps, self.power)


@dataclass(frozen=True, kw_only=True)
class Linear(_FromInitial):
    """η_t = η_0 (1 - t / T), t counted in steps, T the steps of the run."""

    def __call__(self, moment: ScheduleContext) -> npt.NDArray[np.float64]:
        return np.asarray(self.initial * (1 - moment.step / moment.steps))


@dataclass(frozen=True, kw_only=True)
class Cosine(_FromInitial):
    """η_e = η_min + (η_0 - η_min)(1 + cos(π e / E)) / 2 in epoch e of E.

    Args:
        initial: η_0, above 0.
        minimum: η_min, from 0 to ``initial``.
    """

    minimum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_minimum(self.minimum, "initial", self.initial)

    def __call__(self, moment: ScheduleContext) -> float:
        share = (1 + math.cos(math.pi * moment.epoch / moment.epochs)) / 2
        return self.minimum + (self.initial - self.minimum) * share


@dataclass(frozen=True, kw_only=True)
class Exponential(_FromInitial):
    """Learning rate that grows by a factor every ``interval`` epochs.

    In stage m = epoch // interval of M = epochs / interval: η_m = η_0 γ^m. With ``final`` alone
    γ = (η_max / η_0)^(1 / (M - 1)); with both, the affine form that lands on ``final``.
    Never above ``final``. With neither of them the run ends at twice ``initial``.

    Args:
        initial: rate of the first stage, η_0, above 0.
        growth: factor from one stage to the next, γ, at least 1.
        final: rate of the last stage, η_max, at least ``initial``.
        interval: length of a stage in epochs, at least 1.
    """

    interval: int
    growth: float | None = None
    final: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("interval", self.interval, 1)
        if self.final is not None:
            number("final", self.final)
        check_growth(self.initial, self.growth, self.final)

    def check(self, *, epochs: int) -> None:
        stage_fits(self.interval, epochs)

    def __call__(self, moment: ScheduleContext) -> float:
        return self._growth.value(moment.epoch, moment.epochs)

    def factor(self, epochs: int) -> float:
        """γ, the factor from one stage to the next in a run of ``epochs``."""
        return self._growth.factor(epochs)

    @property
    def _growth(self) -> Growth:
        final = 2 * self.initial if self.growth is None and self.final is None else self.final
        return Growth(self.initial, self.growth, final, self.interval)


@dataclass(frozen=True, kw_only=True)
class BatchScaled(_FromInitial):
    """Learning rate that follows the batch size: η_e = η_0 (b_e / b_0)^p.

    Args:
        initial: rate at the first batch size b_0, above 0.
        power: p; 1 is linear scaling, 0.5 square-root scaling.
        maximum: where given, never above it.
    """

    power: float = 1.0
    maximum: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("power", self.power)
        if self.maximum is not None:
            at_least("maximum", self.maximum, self.initial)

    def __call__(self, moment: ScheduleContext) -> float:
        ratio = moment.batch_size / moment.initial_batch_size
        rate = self.initial * float(ratio**self.power)
        return rate if self.maximum is None else min(rate, self.maximum)


@dataclass(frozen=True, kw_only=True)
class PiecewiseConstant:
    """Learning rate given as a list of (epoch, rate): each rate holds from its epoch on."""

    values: Sequence[tuple[int, float]]

    def __post_init__(self) -> None:
        for _, rate in self._table.pairs:
            positive("a learning rate of values", rate)

    @cached_property
    def _table(self) -> Table:
        return Table(self.values)

    def check(self, *, epochs: int) -> None:
        self._table.check(epochs=epochs)

    def __call__(self, moment: ScheduleContext) -> float:
        return self._table(moment.epoch)


def check_minimum(minimum: float, top_name: str, top: float) -> None:
    """Raise ValueError where ``minimum`` is not between 0 and the rate that decays to it."""
    at_least("minimum", minimum, 0)
    if minimum > top:
        raise ValueError(f"minimum must be at most {top_name} ({top:g}), got {minimum}")
