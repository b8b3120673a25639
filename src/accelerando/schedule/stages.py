"""Growth in stages, tables by epoch and default lengths, for batch sizes and learning rates."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from accelerando.checks import check_at_least, check_integer, check_number

LARGEST_VALUE = 2.0**62
"""Upper limit of unbounded growth: above the size of any data set, and safe in floating point."""


class StagedGrowth(NamedTuple):
    """A value that grows by a constant factor every ``interval`` epochs.

    In stage m = epoch // interval of M = epochs / interval (not rounded) stages:

    - ``growth`` only:  v_m = initial * growth**m
    - ``final`` only:   v_m = initial * growth**m, growth = (final / initial)**(1 / (M - 1))
    - both:             v_m = a * growth**m + initial - a,
                        a = (final - initial) / (growth**(M - 1) - 1)

    The value never exceeds ``final``. A run of a single stage stays at ``initial``.
    Source: Umeda and Iiduka, arXiv 2409.08770.
    """

    initial: float
    growth: float | None
    final: float | None
    interval: int

    def value(self, epoch: int, epochs: int) -> float:
        """Return v_m in ``epoch`` of a run of ``epochs`` epochs."""
        stage, stages = epoch // self.interval, epochs / self.interval
        factor = self.factor(epochs)
        if self.final is None:
            return min(self.initial * _power(factor, stage), LARGEST_VALUE)
        if stages <= 1 or self.final == self.initial:
            return self.initial
        if self.growth is None:
            return min(self.initial * _power(factor, stage), self.final)
        share = (_power(factor, stage) - 1) / (_power(factor, stages - 1) - 1)
        return min(self.initial + (self.final - self.initial) * share, self.final)

    def factor(self, epochs: int) -> float:
        """Return the growth factor per stage (in the affine form, that of the growing term)."""
        if self.growth is not None:
            return self.growth
        assert self.final is not None
        stages = epochs / self.interval
        return 1.0 if stages <= 1 else float((self.final / self.initial) ** (1 / (stages - 1)))


def check_growth(initial: float, growth: float | None, final: float | None) -> None:
    """Raise ValueError if ``growth`` and ``final`` do not define a growing sequence."""
    if growth is not None:
        check_at_least("growth", growth, 1)
    if final is not None:
        if final < initial:
            raise ValueError(f"final must be at least initial ({initial}), got {final}")
        if growth == 1 and final > initial:
            raise ValueError(
                f"growth 1 never reaches final {final} from initial {initial}: "
                "give a growth above 1, or leave growth out"
            )


def check_interval(interval: int, epochs: int) -> None:
    """Raise ValueError if a stage of ``interval`` epochs is longer than the run."""
    if interval > epochs:
        raise ValueError(
            f"interval must be at most the length of the run ({epochs} epochs), got {interval}"
        )


def _power(base: float, exponent: float) -> float:
    if exponent * math.log(base) > math.log(LARGEST_VALUE):
        return LARGEST_VALUE
    return float(base**exponent)


class EpochTable:
    """A piecewise constant function of the epoch, given as (first epoch, value) pairs.

    Raises:
        ValueError: ``pairs`` is empty, does not start at epoch 0, or its epochs do not increase.
    """

    def __init__(self, pairs: Sequence[Any]) -> None:
        if not pairs:
            raise ValueError("values must contain at least one [epoch, value] pair, got none")
        for pair in pairs:
            if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
                raise ValueError(f"values must be pairs [epoch, value], got {pair!r}")
            check_integer("an epoch in values", pair[0], 0)
            check_number("a value in values", pair[1])
        self.pairs = [(int(epoch), value) for epoch, value in pairs]
        self._epochs = epochs = [epoch for epoch, _ in self.pairs]
        if epochs[0] != 0 or any(a >= b for a, b in pairwise(epochs)):
            raise ValueError(f"the epochs in values must start at 0 and increase, got {epochs}")

    def check(self, *, epochs: int) -> None:
        """Raise ValueError if the table changes after the end of a run of ``epochs`` epochs."""
        last = self.pairs[-1][0]
        if last >= epochs:
            raise ValueError(
                f"the epochs in values must lie within the run ({epochs} epochs), got {last}"
            )

    def __call__(self, epoch: int) -> float:
        return float(self.pairs[bisect_right(self._epochs, epoch) - 1][1])


DEFAULT_LENGTHS: dict[str, Callable[[int], int]] = {
    "stage": lambda epochs: max(1, epochs // 10),
    "warmup": lambda epochs: max(2, epochs // 10),
    "stair": lambda epochs: max(1, epochs // 100),
}
"""Default lengths of stages, warm-ups and their stairs: 10, 10 and 1 % of the epochs of a run.

YAML files refer to them by these names, as in ``${stage:${epochs}}``.

>>> {name: (length(300), length(5)) for name, length in DEFAULT_LENGTHS.items()}
{'stage': (30, 1), 'warmup': (30, 2), 'stair': (3, 1)}
"""
