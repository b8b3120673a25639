"""Seesaw: where a decay would halve the learning rate, the batch doubles instead."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accelerando.checks import whole
from accelerando.schedule.batch_size import ConstantBatch
from accelerando.schedule.context import LearningRate, Progress
from accelerando.schedule.learning_rate import PiecewiseConstant
from accelerando.schedule.plan import Plan
from accelerando.schedule.scheduler import Scheduler

RATE_PER_DOUBLING = {"sgd": 1.0, "normalised": 1 / math.sqrt(2)}
"""What the rate is multiplied by when the batch doubles."""


@dataclass(frozen=True, kw_only=True)
class Seesaw:
    """A decay of the learning rate turned into growth of the batch (arXiv 2510.14717).

    With k the number of times that the decay has halved its rate since its peak, by the beginning
    of an epoch, the batch is b_0 2^k and the rate is the peak ("sgd"), or the peak divided by
    √2^k ("normalised": the rule for normalised and Adam-like steps). Once the batch cannot
    double, at ``maximum`` or at the whole training set, the rate itself is halved.

    Args:
        batch_size: the constant batch size b_0 that the decay belongs to.
        learning_rate: the decay, followed as at that batch size.
        equivalence: "sgd" or "normalised".
        maximum: where given, the largest batch.

    Raises:
        ValueError: a value is out of range; the message says what is allowed.
    """

    batch_size: ConstantBatch
    learning_rate: LearningRate
    equivalence: str = "sgd"
    maximum: int | None = None

    def __post_init__(self) -> None:
        if self.equivalence not in RATE_PER_DOUBLING:
            raise ValueError(f"equivalence must be sgd or normalised, got {self.equivalence!r}")
        if not isinstance(self.batch_size, ConstantBatch):
            raise ValueError("batch_size must be the constant shape: seesaw makes it grow")
        if self.maximum is not None:
            whole("maximum", self.maximum, self.batch_size.initial)

    def bind(self, *, examples: int, epochs: int) -> Plan:
        """Fit to a run; see ``Scheduler.bind``."""
        decay = Scheduler(batch_size=self.batch_size, learning_rate=self.learning_rate).bind(
            examples=examples, epochs=epochs
        )
        largest = examples if self.maximum is None else min(self.maximum, examples)
        doublings = int(math.log2(largest / self.batch_size.initial))
        sizes, rates, peak = [], [], 0.0
        for epoch in range(epochs):
            rate = decay.setting(Progress(epoch, 0, int(decay.first_steps[epoch]))).learning_rate
            peak = max(peak, rate)
            ratio = peak / rate if rate > 0 else math.inf
            if math.isinf(ratio):
                raise ValueError(
                    f"learning_rate must stay above 0 for its halvings to be counted, in epoch "
                    f"{epoch} of {epochs} it is {rate:g}: take a slower decay"
                )
            # rounded first: a rate of exactly a half must count as halved
            halvings = math.floor(round(math.log2(ratio), 9))
            doubled = min(halvings, doublings)
            sizes.append(self.batch_size.initial * 2**doubled)
            factor = RATE_PER_DOUBLING[self.equivalence] ** doubled
            rates.append(peak * factor / 2 ** (halvings - doubled))
        notes: tuple[str, ...] = ()
        if max(sizes) * 2 > largest and rates[-1] < rates[0]:
            notes = (f"the batch stops doubling at {max(sizes)}: after that the rate is halved",)
        return Plan(
            learning_rate=PiecewiseConstant(values=list(enumerate(rates))),
            examples=examples,
            batch_sizes=np.array(sizes, dtype=np.int64),
            notes=notes,
        )
