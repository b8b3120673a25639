"""The scheduler: a batch-size shape and a learning-rate shape that can be fitted to a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from accelerando.checks import check_integer
from accelerando.schedule.context import BatchSize, LearningRate
from accelerando.schedule.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """A description of how batch size and learning rate change together; it has no state.

    Args:
        batch_size: shape of the batch size.
        learning_rate: shape of the learning rate, which may depend on the batch size.

    >>> from accelerando.schedule import Constant, ExponentialBatch, Progress, Scheduler
    >>> scheduler = Scheduler(
    ...     batch_size=ExponentialBatch(initial=8, growth=2, interval=30),
    ...     learning_rate=Constant(initial=0.1),
    ... )
    >>> plan = scheduler.bind(examples=50_000, epochs=300)
    >>> plan.total_steps, plan.setting(Progress(epoch=65, offset=0, step=446_000))
    (374760, Setting(batch_size=32, learning_rate=0.1))
    """

    batch_size: BatchSize
    learning_rate: LearningRate

    def bind(self, *, examples: int, epochs: int) -> Plan:
        """Fit the scheduler to a run of ``epochs`` epochs over ``examples`` training examples.

        The batch size is capped at the size of the training set; the plan's notes report it.

        Raises:
            ValueError: a shape does not fit the run.
        """
        check_integer("epochs", epochs, 1)
        check_integer("examples", examples, 1)
        with _prefix_errors("batch_size"):
            self.batch_size.check(epochs=epochs, examples=examples)
        with _prefix_errors("learning_rate"):
            self.learning_rate.check(epochs=epochs)
        requested = [self.batch_size(epoch=epoch, epochs=epochs) for epoch in range(epochs)]
        notes = []
        capped = next((epoch for epoch, size in enumerate(requested) if size > examples), None)
        if capped is not None:
            notes.append(
                f"the batch size stops growing at {examples}, the full training set, in epoch "
                f"{capped} (the schedule asks for {requested[-1]} in the last epoch)"
            )
        return Plan(
            learning_rate=self.learning_rate,
            examples=examples,
            batch_sizes=np.minimum(np.array(requested, dtype=np.int64), examples),
            notes=tuple(notes),
        )


@contextmanager
def _prefix_errors(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
