"""Exponential growth in stages, shared by batch sizes and learning rates."""

from __future__ import annotations

import math
from typing import NamedTuple

from accelerando.checks import at_least

LARGEST = 2.0**62
"""Growth stops here: larger than any data set, and safe in floating point."""


class Growth(NamedTuple):
    """Something that grows by a factor every ``interval`` epochs.

    With m = epoch // interval and M = epochs / interval (not rounded):

    - growth alone:  v_m = initial * growth**m
    - final alone:   the same, growth = (final / initial)**(1 / (M - 1))
    - both:          v_m = a * growth**m + initial - a,
                     a = (final - initial) / (growth**(M - 1) - 1)

    Never above ``final``. A run of one stage stays at ``initial``.
    Source: Umeda and Iiduka, arXiv 2409.08770.
    """

    initial: float
    growth: float | None
    final: float | None
    interval: int

    def value(self, epoch: int, epochs: int) -> float:
        """v_m in ``epoch`` of a run of ``epochs``."""
        stage, stages = epoch // self.interval, epochs / self.interval
        factor = self.factor(epochs)
        if self.final is None:
            return min(self.initial * _power(factor, stage), LARGEST)
        if stages <= 1 or self.final == self.initial:
            return self.initial
        if self.growth is None:
            return min(self.initial * _power(factor, stage), self.final)
        share = (_power(factor, stage) - 1) / (_power(factor, stages - 1) - 1)
        return min(self.initial + (self.final - self.initial) * share, self.final)

    def factor(self, epochs: int) -> float:
        """Factor from one stage to the next; in the affine form that of its growing part."""
        if self.growth is not None:
            return self.growth
        assert self.final is not None
        stages = epochs / self.interval
        return 1.0 if stages <= 1 else float((self.final / self.initial) ** (1 / (stages - 1)))


def check_growth(initial: float, growth: float | None, final: float | None) -> None:
    """Raise ValueError where growth and final do not make a growing sequence."""
    if growth is not None:
        at_least("growth", growth, 1)
    if final is not None:
        if final < initial:
            raise ValueError(f"final must be at least initial ({initial}), got {final}")
        if growth == 1 and final > initial:
            raise ValueError(
                f"growth 1 never reaches final {final} from initial {initial}: "
                "give a growth above 1, or leave growth out"
            )


def _power(base: float, exponent: float) -> float:
    if exponent * math.log(base) > math.log(LARGEST):
        return LARGEST
    return float(base**exponent)
