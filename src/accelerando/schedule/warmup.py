"""Learning rates with a warm-up: they rise in stairs to a peak, then stay there or decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accelerando.checks import check_at_least, check_integer, check_number, check_positive
from accelerando.schedule.context import ScheduleContext
from accelerando.schedule.learning_rate import Cosine, Linear, Polynomial, check_minimum


@dataclass(frozen=True, kw_only=True)
class WarmupConstant:
    """Warm-up in stairs, then constant at the peak.

    During the first W epochs the learning rate rises every w epochs: η_e = min(η_0 γ^(e // w),
    η_max) with γ = (η_max / η_0)^(w / (W - w)) (Umeda and Iiduka, arXiv 2409.08770).

    Args:
        initial: learning rate at the start, η_0, above 0.
        peak: learning rate at the end of the warm-up, η_max, at least ``initial``; default twice
            ``initial``.
        growth: γ, at least 1, instead of ``peak``, which is then η_0 γ^((W - w) / w). If w does not
            divide W, the last stair is cut at that peak; published code exceeds it there and
            returns to it after the warm-up.
        warmup_epochs: length of the warm-up in epochs, W, above ``warmup_interval``.
        warmup_interval: length of a stair in epochs, w, at least 1.

    Raises:
        ValueError: a value is out of range.
    """

    initial: float
    warmup_epochs: int
    warmup_interval: int
    peak: float | None = None
    growth: float | None = None

    def __post_init__(self) -> None:
        check_positive("initial", self.initial)
        check_integer("warmup_interval", self.warmup_interval, 1)
        check_integer("warmup_epochs", self.warmup_epochs, 1)
        if self.warmup_interval >= self.warmup_epochs:
            raise ValueError(
                f"warmup_interval must be shorter than warmup_epochs ({self.warmup_epochs}), "
                f"got {self.warmup_interval}"
            )
        if self.peak is not None and self.growth is not None:
            raise ValueError(
                "give either peak (at the end of the warm-up) or growth (per stair), not both"
            )
        if self.growth is not None:
            check_at_least("growth", self.growth, 1)
            if self._stairs * math.log(self.growth) > math.log(1e300 / self.initial):
                raise ValueError(f"growth makes the peak too large, got {self.growth}")
        if self.peak is not None and check_number("peak", self.peak) < self.initial:
            raise ValueError(f"peak must be at least initial ({self.initial:g}), got {self.peak}")

    @property
    def _stairs(self) -> float:
        return (self.warmup_epochs - self.warmup_interval) / self.warmup_interval

    @property
    def peak_rate(self) -> float:
        """The learning rate at the end of the warm-up, η_max, however it was given."""
        if self.peak is not None:
            return self.peak
        if self.growth is None:
            return 2 * self.initial
        return float(self.initial * self.growth**self._stairs)

    def check(self, *, epochs: int) -> None:
        # the shortest warm-up has two stairs of one epoch, and a run of one epoch uses the first
        if self.warmup_epochs > max(epochs, 2):
            raise ValueError(
                f"warmup_epochs must be at most the length of the run ({epochs} epochs), "
                f"got {self.warmup_epochs}"
            )

    def __call__(self, context: ScheduleContext) -> float | npt.NDArray[np.float64]:
        if context.epoch >= self.warmup_epochs:
            return self._decay(context.shifted(self.warmup_epochs))
        stair = context.epoch // self.warmup_interval
        # divide the exponents first: a large factor to a large power would overflow
        factor = float((self.peak_rate / self.initial) ** (stair / self._stairs))
        return min(self.initial * factor, self.peak_rate)

    def _decay(self, rest: ScheduleContext) -> float | npt.NDArray[np.float64]:
        """Return the learning rate after the warm-up; ``rest`` starts at its end."""
        return self.peak_rate


@dataclass(frozen=True, kw_only=True)
class WarmupCosine(WarmupConstant):
    """Warm-up in stairs, then cosine decay per epoch from the peak to ``minimum``."""

    minimum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_minimum(self.minimum, "the peak", self.peak_rate)

    def _decay(self, rest: ScheduleContext) -> float | npt.NDArray[np.float64]:
        return Cosine(initial=self.peak_rate, minimum=self.minimum)(rest)


@dataclass(frozen=True, kw_only=True)
class WarmupLinear(WarmupConstant):
    """Warm-up in stairs, then linear decay per step from the peak to 0."""

    def _decay(self, rest: ScheduleContext) -> float | npt.NDArray[np.float64]:
        return Linear(initial=self.peak_rate)(rest)


@dataclass(frozen=True, kw_only=True)
class WarmupPolynomial(WarmupConstant):
    """Warm-up in stairs, then polynomial decay per step from the peak to 0."""

    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("power", self.power)

    def _decay(self, rest: ScheduleContext) -> float | npt.NDArray[np.float64]:
        return Polynomial(initial=self.peak_rate, power=self.power)(rest)
