"""The scheduler: a batch-size shape and a learning-rate shape, fitted to a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from accelerando.checks import whole
from accelerando.schedule.context import BatchSize, LearningRate
from accelerando.schedule.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """A description of how batch size and learning rate move together; it holds no position.

    Args:
        batch_size: shape of the batch size.
        learning_rate: shape of the learning rate; it is told the batch size.

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
        """Fit the scheduler to a run of ``epochs`` over ``examples`` training examples.

        Growth of the batch stops at the whole training set; the plan's notes say so.

        Raises:
            ValueError: the shapes do not fit the run; the message says what is allowed.
        """
        whole("epochs", epochs, 1)
        whole("examples", examples, 1)
        _located("batch_size", lambda: self.batch_size.check(epochs=epochs, examples=examples))
        _located("learning_rate", lambda: self.learning_rate.check(epochs=epochs))
        asked = [self.batch_size(epoch=epoch, epochs=epochs) for epoch in range(epochs)]
        notes = []
        capped = next((epoch for epoch, size in enumerate(asked) if size > examples), None)
        if capped is not None:
            notes.append(
                f"the batch stops growing at {examples}, the whole training set, "
                f"from epoch {capped} on (the schedule asks for {asked[-1]} at the end)"
            )
        sizes = np.minimum(np.array(asked, dtype=np.int64), examples)
        return Plan(
            learning_rate=self.learning_rate,
            examples=examples,
            batch_sizes=sizes,
            notes=tuple(notes),
        )


def _located(name: str, check: Callable[[], None]) -> None:
    try:
        check()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
