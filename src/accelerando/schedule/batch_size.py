"""Shapes of the batch size: constant, exponential, linear, or a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from accelerando.checks import at_least, stage_fits, whole
from accelerando.schedule.growth import Growth, check_growth
from accelerando.schedule.table import Table


def _fits(name: str, size: int | None, examples: int) -> None:
    if size is not None and size > examples:
        raise ValueError(
            f"{name} must be at most the number of training examples ({examples}), got {size}"
        )


@dataclass(frozen=True, kw_only=True)
class ConstantBatch:
    """The same batch size throughout.

    Args:
        initial: examples per batch, at least 1.

    >>> ConstantBatch(initial=128)(epoch=7, epochs=10)
    128
    """

    initial: int

    def __post_init__(self) -> None:
        whole("initial", self.initial, 1)

    def check(self, *, epochs: int, examples: int) -> None:
        _fits("initial", self.initial, examples)

    def __call__(self, *, epoch: int, epochs: int) -> int:
        return self.initial


@dataclass(frozen=True, kw_only=True)
class ExponentialBatch:
    """Batch size that grows by a factor every ``interval`` epochs.

    In stage m = epoch // interval of M = epochs / interval:
    b_m = ceil(b_0 δ^m), or, landing on a final size with a given factor,
    b_m = ceil(min(a δ^m + b_0 - a, b_final)), a = (b_final - b_0) / (δ^(M-1) - 1)
    (Umeda and Iiduka, arXiv 2409.08770).

    Args:
        initial: examples per batch in the first stage, b_0, at least 1.
        growth: factor from one stage to the next, δ, at least 1.
        final: size of the last stage, b_final. Alone it sets the growth; with ``growth`` the
            affine form lands on it; with neither of them the size doubles.
        interval: length of a stage in epochs, at least 1.
        maximum: where given, larger sizes are clipped to it.

    Raises:
        ValueError: a value is out of range; the message says what is allowed.

    >>> ExponentialBatch(initial=8, growth=2, interval=30)(epoch=65, epochs=300)
    32
    """

    initial: int
    interval: int
    growth: float | None = None
    final: int | None = None
    maximum: int | None = None

    def __post_init__(self) -> None:
        whole("initial", self.initial, 1)
        whole("interval", self.interval, 1)
        if self.final is not None:
            whole("final", self.final, 1)
        check_growth(self.initial, self.growth, self.final)
        if self.maximum is not None:
            whole("maximum", self.maximum, self.initial)

    def check(self, *, epochs: int, examples: int) -> None:
        stage_fits(self.interval, epochs)
        _fits("initial", self.initial, examples)
        _fits("final", self.final, examples)

    def factor(self, epochs: int) -> float:
        """δ, the factor from one stage to the next in a run of ``epochs``."""
        return self._growth.factor(epochs)

    @property
    def _growth(self) -> Growth:
        growth = 2 if self.growth is None and self.final is None else self.growth
        return Growth(self.initial, growth, self.final, self.interval)

    def __call__(self, *, epoch: int, epochs: int) -> int:
        value = self._growth.value(epoch, epochs)
        return _clip(value, self.maximum)


@dataclass(frozen=True, kw_only=True)
class LinearBatch:
    """Batch size that grows by a constant number every ``interval`` epochs.

    b_m = b_0 + c m in stage m = epoch // interval (arXiv 2508.05297).

    Args:
        initial: examples per batch in the first stage, b_0, at least 1.
        growth: examples added from one stage to the next, c, at least 0.
        final: size of the last stage, in place of ``growth``; with neither of them ``initial``
            examples are added.
        interval: length of a stage in epochs, at least 1.
        maximum: where given, larger sizes are clipped to it.

    Raises:
        ValueError: a value is out of range; the message says what is allowed.

    >>> LinearBatch(initial=8, growth=16, interval=10)(epoch=25, epochs=100)
    40
    """

    initial: int
    interval: int
    growth: float | None = None
    final: int | None = None
    maximum: int | None = None

    def __post_init__(self) -> None:
        whole("initial", self.initial, 1)
        whole("interval", self.interval, 1)
        if self.growth is not None and self.final is not None:
            raise ValueError("give either growth (examples added per stage) or final, not both")
        if self.growth is not None:
            at_least("growth", self.growth, 0)
        if self.final is not None:
            whole("final", self.final, self.initial)
        if self.maximum is not None:
            whole("maximum", self.maximum, self.initial)

    def check(self, *, epochs: int, examples: int) -> None:
        stage_fits(self.interval, epochs)
        _fits("initial", self.initial, examples)
        _fits("final", self.final, examples)

    def __call__(self, *, epoch: int, epochs: int) -> int:
        stage, last = epoch // self.interval, (epochs - 1) // self.interval
        if self.final is not None:
            added = (self.final - self.initial) * stage / max(last, 1)
        else:
            added = (self.initial if self.growth is None else self.growth) * stage
        return _clip(self.initial + added, self.maximum)


@dataclass(frozen=True, kw_only=True)
class PiecewiseConstantBatch:
    """Batch size given as a list of (epoch, size): each size holds from its epoch on.

    >>> PiecewiseConstantBatch(values=[(0, 8), (30, 16)])(epoch=45, epochs=60)
    16
    """

    values: Sequence[tuple[int, int]]

    def __post_init__(self) -> None:
        for _, size in self._table.pairs:
            whole("a batch size of values", size, 1)

    @cached_property
    def _table(self) -> Table:
        return Table(self.values)

    @property
    def initial(self) -> int:
        return int(self.values[0][1])

    def check(self, *, epochs: int, examples: int) -> None:
        self._table.check(epochs=epochs)
        for _, size in self.values:
            _fits("a batch size of values", size, examples)

    def __call__(self, *, epoch: int, epochs: int) -> int:
        return int(self._table(epoch))


def _clip(size: float, maximum: int | None) -> int:
    # rounded first: 100 * 1.1 is 110.00000000000001 in floating point
    rounded = math.ceil(round(size, 9))
    return rounded if maximum is None else min(rounded, maximum)
