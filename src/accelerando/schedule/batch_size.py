"""Shapes of the batch size: constant, exponential, linear and piecewise constant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from accelerando.checks import check_at_least, check_integer
from accelerando.schedule.stages import EpochTable, StagedGrowth, check_growth, check_interval


def _check_fits(name: str, size: int | None, examples: int) -> None:
    """Raise ValueError if a batch of ``size`` is larger than the training set."""
    if size is not None and size > examples:
        raise ValueError(
            f"{name} must be at most the number of training examples ({examples}), got {size}"
        )


@dataclass(frozen=True, kw_only=True)
class ConstantBatch:
    """Constant batch size.

    Args:
        initial: examples per batch, at least 1.

    >>> ConstantBatch(initial=128)(epoch=7, epochs=10)
    128
    """

    initial: int

    def __post_init__(self) -> None:
        check_integer("initial", self.initial, 1)

    def check(self, *, epochs: int, examples: int) -> None:
        _check_fits("initial", self.initial, examples)

    def __call__(self, *, epoch: int, epochs: int) -> int:
        return self.initial


@dataclass(frozen=True, kw_only=True)
class _StagedBatch:
    """Base of the shapes that change the batch size from stage to stage."""

    initial: int
    interval: int
    growth: float | None = None
    final: int | None = None
    maximum: int | None = None

    def __post_init__(self) -> None:
        check_integer("initial", self.initial, 1)
        check_integer("interval", self.interval, 1)
        check_integer("final", self.final, 1, optional=True)
        self._check_growth()
        check_integer("maximum", self.maximum, self.initial, optional=True)

    def check(self, *, epochs: int, examples: int) -> None:
        check_interval(self.interval, epochs)
        _check_fits("initial", self.initial, examples)
        _check_fits("final", self.final, examples)

    def __call__(self, *, epoch: int, epochs: int) -> int:
        # round first, since 100 * 1.1 is 110.00000000000001 in floating point
        size = math.ceil(round(self._size(epoch, epochs), 9))
        return size if self.maximum is None else min(size, self.maximum)

    def _check_growth(self) -> None:
        """Raise ValueError if ``growth`` and ``final`` do not define a growing sequence."""
        raise NotImplementedError

    def _size(self, epoch: int, epochs: int) -> float:
        """Return the batch size before it is rounded up and limited."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ExponentialBatch(_StagedBatch):
    """Batch size that grows by a constant factor every ``interval`` epochs.

    In stage m = epoch // interval of M = epochs / interval stages, b_m = ceil(b_0 δ^m). If both
    the factor and the final size are given,
    b_m = ceil(min(a δ^m + b_0 - a, b_final)), a = (b_final - b_0) / (δ^(M-1) - 1)
    (Umeda and Iiduka, arXiv 2409.08770).

    Args:
        initial: examples per batch in the first stage, b_0, at least 1.
        interval: length of a stage in epochs, at least 1.
        growth: factor from one stage to the next, δ, at least 1.
        final: batch size of the last stage, b_final. Without ``growth`` it determines the factor;
            with ``growth`` the affine form reaches it. If neither is given, the size doubles.
        maximum: upper limit of the batch size, if any.

    Raises:
        ValueError: a value is out of range.

    >>> ExponentialBatch(initial=8, growth=2, interval=30)(epoch=65, epochs=300)
    32
    """

    def _check_growth(self) -> None:
        check_growth(self.initial, self.growth, self.final)

    def factor(self, epochs: int) -> float:
        """Return δ, the growth factor per stage in a run of ``epochs`` epochs."""
        return self._growth.factor(epochs)

    @property
    def _growth(self) -> StagedGrowth:
        growth = 2 if self.growth is None and self.final is None else self.growth
        return StagedGrowth(self.initial, growth, self.final, self.interval)

    def _size(self, epoch: int, epochs: int) -> float:
        return self._growth.value(epoch, epochs)


@dataclass(frozen=True, kw_only=True)
class LinearBatch(_StagedBatch):
    """Batch size that grows by a constant amount every ``interval`` epochs.

    b_m = b_0 + c m in stage m = epoch // interval (arXiv 2508.05297).

    Args:
        initial: examples per batch in the first stage, b_0, at least 1.
        interval: length of a stage in epochs, at least 1.
        growth: examples added from one stage to the next, c, at least 0; default ``initial``.
        final: batch size of the last stage, instead of ``growth``.
        maximum: upper limit of the batch size, if any.

    Raises:
        ValueError: a value is out of range.

    >>> LinearBatch(initial=8, growth=16, interval=10)(epoch=25, epochs=100)
    40
    """

    def _check_growth(self) -> None:
        if self.growth is not None and self.final is not None:
            raise ValueError("give either growth (examples added per stage) or final, not both")
        if self.growth is not None:
            check_at_least("growth", self.growth, 0)
        check_integer("final", self.final, self.initial, optional=True)

    def _size(self, epoch: int, epochs: int) -> float:
        stage, last = epoch // self.interval, (epochs - 1) // self.interval
        if self.final is not None:
            return self.initial + (self.final - self.initial) * stage / max(last, 1)
        return self.initial + (self.initial if self.growth is None else self.growth) * stage


@dataclass(frozen=True, kw_only=True)
class PiecewiseConstantBatch:
    """Batch size given as (epoch, size) pairs; each size applies from its epoch on.

    Raises:
        ValueError: ``values`` is empty, does not start at epoch 0, or its epochs do not increase.

    >>> PiecewiseConstantBatch(values=[(0, 8), (30, 16)])(epoch=45, epochs=60)
    16
    """

    values: Sequence[tuple[int, int]]

    def __post_init__(self) -> None:
        for _, size in self._table.pairs:
            check_integer("a batch size in values", size, 1)

    @cached_property
    def _table(self) -> EpochTable:
        return EpochTable(self.values)

    @property
    def initial(self) -> int:
        return int(self.values[0][1])

    def check(self, *, epochs: int, examples: int) -> None:
        self._table.check(epochs=epochs)
        for _, size in self.values:
            _check_fits("a batch size in values", size, examples)

    def __call__(self, *, epoch: int, epochs: int) -> int:
        return int(self._table(epoch))
