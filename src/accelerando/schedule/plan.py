"""A scheduler, and the plan that it gives a run: batch size and learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelerando.checks import check_integer
from accelerando.schedule.context import (
    BatchSize,
    IntArray,
    LearningRate,
    Progress,
    ScheduleContext,
    Setting,
)

START = Progress()


class Terms(NamedTuple):
    """Terms of the bound of Umeda and Iiduka (arXiv 2409.08770) that a schedule determines.

    Args:
        bias: B_T = 1 / Σ η_t.
        variance: V_T = Σ (η_t² / b_t) / Σ η_t, with b_t the scheduled batch size.
        largest_rate: largest learning rate, η_max.
    """

    bias: float
    variance: float
    largest_rate: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """Maps every position in a run to a batch size and a learning rate; see ``Scheduler.bind``.

    Args:
        learning_rate: shape of the learning rate.
        examples: training examples, n.
        batch_sizes: batch size in each epoch, shape (epochs,).
        notes: remarks for the user on how the schedule was fitted to the run.
    """

    learning_rate: LearningRate
    examples: int
    batch_sizes: IntArray
    notes: tuple[str, ...] = ()

    @property
    def epochs(self) -> int:
        return len(self.batch_sizes)

    @cached_property
    def _sizes(self) -> list[int]:
        """Batch sizes as Python integers, which are faster to index than an array."""
        sizes: list[int] = self.batch_sizes.tolist()
        return sizes

    @cached_property
    def steps_per_epoch(self) -> IntArray:
        """Steps in each epoch, ceil(n / b), shape (epochs,); the last batch may be smaller."""
        return -(-self.examples // self.batch_sizes)

    @cached_property
    def first_steps(self) -> IntArray:
        """Steps taken before each epoch and, last, in the entire run, shape (epochs + 1,)."""
        return np.concatenate([[0], np.cumsum(self.steps_per_epoch)])

    @property
    def total_steps(self) -> int:
        return int(self.first_steps[-1])

    @property
    def total_examples(self) -> int:
        """Per-example gradients computed in the entire run (SFO complexity), n E."""
        return self.examples * self.epochs

    @property
    def largest_batch(self) -> int:
        return int(self.batch_sizes.max())

    def setting(self, progress: Progress) -> Setting:
        """Return the batch size and learning rate of the step at ``progress``."""
        size = self._sizes[progress.epoch]
        return Setting(size, float(self._rate(progress.epoch, progress.step)))

    def last_setting(self, progress: Progress) -> Setting:
        """Return the setting of the step before ``progress``; at the start, of the first step."""
        if progress.step == 0:
            return self.setting(progress)
        epoch = progress.epoch if progress.offset else progress.epoch - 1
        return self.setting(Progress(epoch, progress.offset, progress.step - 1))

    def rates(self, epoch: int) -> npt.NDArray[np.float64]:
        """Return the learning rate of each step of ``epoch``, shape (steps in the epoch,)."""
        steps = np.arange(*self.first_steps[epoch : epoch + 2])
        return np.broadcast_to(np.asarray(self._rate(epoch, steps), dtype=np.float64), steps.shape)

    def advance(self, progress: Progress) -> Progress:
        """Return the position after the step at ``progress``."""
        offset = progress.offset + self._sizes[progress.epoch]
        if offset >= self.examples:
            return Progress(progress.epoch + 1, 0, progress.step + 1)
        return Progress(progress.epoch, offset, progress.step + 1)

    def at(self, epoch: int, offset: int) -> Progress:
        """Return the position after ``offset`` examples of ``epoch``.

        Raises:
            ValueError: no step of this plan starts there.
        """
        if epoch == self.epochs and offset == 0:
            return Progress(epoch, 0, self.total_steps)
        check_integer("epoch", epoch, 0)
        inside = epoch < self.epochs and 0 <= offset < self.examples
        if not inside or offset % self.batch_sizes[epoch]:
            raise ValueError(f"no step of this plan starts at epoch {epoch}, offset {offset}")
        step = int(self.first_steps[epoch]) + offset // int(self.batch_sizes[epoch])
        return Progress(epoch, offset, step)

    def position_after(self, steps: int) -> Progress:
        """Return the position after ``steps`` steps of the run."""
        epoch = int(np.searchsorted(self.first_steps, steps, side="right")) - 1
        if epoch == self.epochs:
            return Progress(epoch, 0, steps)
        return Progress(
            epoch, (steps - int(self.first_steps[epoch])) * int(self.batch_sizes[epoch]), steps
        )

    def positions(self, start: Progress = START) -> Iterator[Progress]:
        """Yield the position of each step, from ``start`` to the end of the run."""
        while start.epoch < self.epochs:
            yield start
            start = self.advance(start)

    @cached_property
    def _sums(self) -> npt.NDArray[np.float64]:
        """Σ η_t, Σ η_t² / b_t and max η_t of each epoch, shape (epochs, 3)."""
        counts = self.steps_per_epoch.tolist()
        return np.array([self._sum(epoch, steps) for epoch, steps in enumerate(counts)])

    def _sum(self, epoch: int, steps: int) -> tuple[float, float, float]:
        """Return Σ η_t, Σ η_t² / b_t and max η_t over the first ``steps`` steps of ``epoch``."""
        first = int(self.first_steps[epoch])
        rate = np.asarray(self._rate(epoch, np.arange(first, first + steps)))
        # a scalar stands for all steps of the epoch
        weight = steps if rate.ndim == 0 else 1
        squares = weight * float((rate**2).sum()) / int(self.batch_sizes[epoch])
        return weight * float(rate.sum()), squares, float(rate.max())

    def terms(self, steps: int | None = None) -> Terms:
        """Return the terms of the bound over the first ``steps`` steps, by default all.

        Raises:
            ValueError: ``steps`` is below 1 or above the number of steps in the run.
        """
        steps = self.total_steps if steps is None else steps
        check_integer("steps", steps, 1)
        if steps > self.total_steps:
            raise ValueError(
                f"steps must be at most the steps of the run ({self.total_steps}), got {steps}"
            )
        full_epochs = int(np.searchsorted(self.first_steps, steps, side="right")) - 1
        rows = self._sums[:full_epochs].tolist()
        if rest := steps - int(self.first_steps[full_epochs]):
            rows.append(self._sum(full_epochs, rest))
        rates, squares, largest = zip(*rows, strict=True)
        total = math.fsum(rates)
        return Terms(1 / total, math.fsum(squares) / total, max(largest))

    @property
    def B_T(self) -> float:  # noqa: N802 - the paper's name
        """Bias term of the bound over the entire run; see ``Terms``."""
        return self.terms().bias

    @property
    def V_T(self) -> float:  # noqa: N802 - the paper's name
        """Variance term of the bound over the entire run; see ``Terms``."""
        return self.terms().variance

    def _rate(self, epoch: int, step: int | IntArray) -> float | npt.NDArray[np.float64]:
        size, first = self._sizes[epoch], self._sizes[0]
        return self.learning_rate(ScheduleContext(epoch, step, size, first, self.first_steps))


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
