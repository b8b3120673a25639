"""Seesaw: whenever a decay would halve the learning rate, the batch size doubles instead."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accelerando.checks import check_integer
from accelerando.schedule.batch_size import ConstantBatch
from accelerando.schedule.context import LearningRate, Progress
from accelerando.schedule.learning_rate import PiecewiseConstant
from accelerando.schedule.plan import Plan, Scheduler

RATE_PER_DOUBLING = {"sgd": 1.0, "normalised": 1 / math.sqrt(2)}
"""Factor of the learning rate when the batch size doubles."""


@dataclass(frozen=True, kw_only=True)
class Seesaw:
    """Turns the decay of a learning rate into growth of the batch size (arXiv 2510.14717).

    If the decay has halved the learning rate k times between its peak and the start of an epoch,
    the batch size in that epoch is b_0 2^k. The learning rate stays at the peak ("sgd") or is the
    peak divided by √2^k ("normalised", for normalised and Adam-like updates). Once the batch size
    cannot double, because of ``maximum`` or the size of the training set, the learning rate is
    halved instead.

    Args:
        batch_size: constant batch size b_0 of the decay.
        learning_rate: the decay, evaluated at that batch size.
        equivalence: "sgd" or "normalised".
        maximum: upper limit of the batch size, if any.

    Raises:
        ValueError: a value is out of range.
    """

    batch_size: ConstantBatch
    learning_rate: LearningRate
    equivalence: str = "sgd"
    maximum: int | None = None

    def __post_init__(self) -> None:
        if self.equivalence not in RATE_PER_DOUBLING:
            raise ValueError(f"equivalence must be sgd or normalised, got {self.equivalence!r}")
        if not isinstance(self.batch_size, ConstantBatch):
            raise ValueError("batch_size must be constant: seesaw itself makes it grow")
        check_integer("maximum", self.maximum, self.batch_size.initial, optional=True)

    def bind(self, *, examples: int, epochs: int) -> Plan:
        """Fit the scheduler to a run; see ``Scheduler.bind``."""
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
                    "learning_rate must stay above 0, since seesaw counts how often it halves; in "
                    f"epoch {epoch} of {epochs} it is {rate:g}: choose a slower decay"
                )
            # round first: a rate of exactly one half must count as halved
            halvings = math.floor(round(math.log2(ratio), 9))
            doubled = min(halvings, doublings)
            sizes.append(self.batch_size.initial * 2**doubled)
            factor = RATE_PER_DOUBLING[self.equivalence] ** doubled
            rates.append(peak * factor / 2 ** (halvings - doubled))
        notes: tuple[str, ...] = ()
        if max(sizes) * 2 > largest and rates[-1] < rates[0]:
            notes = (
                f"the batch size stops doubling at {max(sizes)}; from then on the learning rate "
                "is halved instead",
            )
        return Plan(
            learning_rate=PiecewiseConstant(values=list(enumerate(rates))),
            examples=examples,
            batch_sizes=np.array(sizes, dtype=np.int64),
            notes=notes,
        )
