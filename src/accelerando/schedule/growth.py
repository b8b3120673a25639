"""Exponential growth in stages, shared by batch sizes and learning rates."""

from __future__ import annotations

import math

LARGEST = 2.0**62
"""Growth stops here: larger than any data set, and safe in floating point."""


def staged_growth(
    *,
    initial: float,
    growth: float | None,
    final: float | None,
    interval: int,
    epoch: int,
    epochs: int,
) -> float:
    """Value in ``epoch`` of something that grows by a factor every ``interval`` epochs.

    With m = epoch // interval and M = epochs / interval (not rounded):

    - growth alone:  v_m = initial * growth**m
    - final alone:   the same, growth = (final / initial)**(1 / (M - 1))
    - both:          v_m = a * growth**m + initial - a,
                     a = (final - initial) / (growth**(M - 1) - 1)

    Never above ``final``. A run of one stage stays at ``initial``.
    Source: Umeda and Iiduka, arXiv 2409.08770.
    """
    stage, stages = epoch // interval, epochs / interval
    if final is None:
        assert growth is not None
        return min(initial * _power(growth, stage), LARGEST)
    if stages <= 1 or final == initial:
        return initial
    if growth is None:
        return min(initial * _power(final / initial, stage / (stages - 1)), final)
    # written so that neither power can overflow on its own
    top = _power(growth, stages - 1)
    return min(initial + (final - initial) * (_power(growth, stage) - 1) / (top - 1), final)


def _power(base: float, exponent: float) -> float:
    if exponent * math.log(base) > math.log(LARGEST):
        return LARGEST
    return float(base**exponent)
