"""A schedule fitted to a run: known in full before a single step is made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelerando.checks import whole
from accelerando.schedule.context import IntArray, LearningRate, Progress, ScheduleContext, Setting

START = Progress()


class Terms(NamedTuple):
    """What the bound of Umeda and Iiduka (arXiv 2409.08770) needs of a schedule."""

    bias: float
    """B_T = 1 / Σ η_t."""
    variance: float
    """V_T = Σ (η_t² / b_t) / Σ η_t, b_t as scheduled."""
    largest_rate: float
    """η_max."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """Batch sizes, steps and rates of a whole run, made by ``Scheduler.bind``.

    Args:
        learning_rate: shape of the learning rate.
        examples: training examples, n.
        batch_sizes: examples per batch in each epoch, shape (epochs,).
        notes: what the user should know of how the schedule was fitted.
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
        """The batch sizes as Python's numbers, which are quicker to take one of."""
        sizes: list[int] = self.batch_sizes.tolist()
        return sizes

    @cached_property
    def steps(self) -> IntArray:
        """Steps in each epoch, ceil(n / b): the last, smaller batch is kept."""
        return -(-self.examples // self.batch_sizes)

    @cached_property
    def first_steps(self) -> IntArray:
        """Steps taken before each epoch and, last, in the whole run; length epochs + 1."""
        return np.concatenate([[0], np.cumsum(self.steps)])

    @property
    def total_steps(self) -> int:
        return int(self.first_steps[-1])

    @property
    def total_examples(self) -> int:
        """Per-example gradients computed in the whole run (SFO complexity), n E."""
        return self.examples * self.epochs

    @property
    def largest_batch(self) -> int:
        return int(self.batch_sizes.max())

    def setting(self, progress: Progress) -> Setting:
        """What the step at ``progress`` is made with; a pure function of the position."""
        size = self._sizes[progress.epoch]
        return Setting(size, float(self._rate(progress.epoch, progress.step)))

    def last_setting(self, progress: Progress) -> Setting:
        """What the step before ``progress`` was made with; at the start, what the first will be."""
        if progress.step == 0:
            return self.setting(progress)
        epoch = progress.epoch if progress.offset else progress.epoch - 1
        return self.setting(Progress(epoch, progress.offset, progress.step - 1))

    def rates(self, epoch: int) -> npt.NDArray[np.float64]:
        """Learning rate of every step of ``epoch``, shape (steps in the epoch,)."""
        first, past = self.first_steps[epoch : epoch + 2]
        steps = np.arange(first, past)
        return np.broadcast_to(np.asarray(self._rate(epoch, steps), dtype=np.float64), steps.shape)

    def advance(self, progress: Progress) -> Progress:
        """The position after the step at ``progress``."""
        offset = progress.offset + self._sizes[progress.epoch]
        if offset >= self.examples:
            return Progress(progress.epoch + 1, 0, progress.step + 1)
        return Progress(progress.epoch, offset, progress.step + 1)

    def at(self, epoch: int, offset: int) -> Progress:
        """The position after ``offset`` examples of ``epoch``.

        Raises:
            ValueError: no step of this plan begins there.
        """
        if epoch == self.epochs and offset == 0:
            return Progress(epoch, 0, self.total_steps)
        whole("epoch", epoch, 0)
        if (
            epoch >= self.epochs
            or not 0 <= offset < self.examples
            or offset % self.batch_sizes[epoch]
        ):
            raise ValueError(f"no step of this plan begins at epoch {epoch}, offset {offset}")
        step = int(self.first_steps[epoch]) + offset // int(self.batch_sizes[epoch])
        return Progress(epoch, offset, step)

    def after(self, steps: int) -> Progress:
        """The position after ``steps`` steps of the run."""
        epoch = int(np.searchsorted(self.first_steps, steps, side="right")) - 1
        if epoch == self.epochs:
            return Progress(epoch, 0, steps)
        return Progress(
            epoch, (steps - int(self.first_steps[epoch])) * int(self.batch_sizes[epoch]), steps
        )

    def positions(self, start: Progress = START) -> Iterator[Progress]:
        """Every position a step is made at, from ``start`` to the end of the run."""
        while start.epoch < self.epochs:
            yield start
            start = self.advance(start)

    @cached_property
    def _sums(self) -> npt.NDArray[np.float64]:
        """Of each epoch Σ η_t, Σ η_t² / b_t and max η_t, shape (epochs, 3)."""
        return np.array([self._sum(epoch, int(steps)) for epoch, steps in enumerate(self.steps)])

    def _sum(self, epoch: int, steps: int) -> tuple[float, float, float]:
        """Σ η_t, Σ η_t² / b_t and max η_t over the first ``steps`` steps of ``epoch``."""
        first = int(self.first_steps[epoch])
        rate = np.asarray(self._rate(epoch, np.arange(first, first + steps)))
        # a rate that is constant within the epoch counts once for each of its steps
        weight = steps if rate.ndim == 0 else 1
        squares = weight * float((rate**2).sum()) / int(self.batch_sizes[epoch])
        return weight * float(rate.sum()), squares, float(rate.max())

    def terms(self, steps: int | None = None) -> Terms:
        """What the paper's bound needs of the schedule's first ``steps`` steps, all if left out.

        Raises:
            ValueError: ``steps`` is below 1 or above the steps of the run.
        """
        steps = self.total_steps if steps is None else steps
        whole("steps", steps, 1)
        if steps > self.total_steps:
            raise ValueError(
                f"steps must be at most those of the run ({self.total_steps}), got {steps}"
            )
        whole_epochs = int(np.searchsorted(self.first_steps, steps, side="right")) - 1
        rows = self._sums[:whole_epochs].tolist()
        if rest := steps - int(self.first_steps[whole_epochs]):
            rows.append(self._sum(whole_epochs, rest))
        rates, squares, largest = zip(*rows, strict=True)
        total = math.fsum(rates)
        return Terms(1 / total, math.fsum(squares) / total, max(largest))

    @property
    def B_T(self) -> float:  # noqa: N802 - the paper's name
        """Bias term of the bound over the whole run; see ``Terms``."""
        return self.terms().bias

    @property
    def V_T(self) -> float:  # noqa: N802 - the paper's name
        """Variance term of the bound over the whole run; see ``Terms``."""
        return self.terms().variance

    @property
    def largest_rate(self) -> float:
        """η_max."""
        return self.terms().largest_rate

    def _rate(self, epoch: int, step: int | IntArray) -> float | npt.NDArray[np.float64]:
        size, first = self._sizes[epoch], self._sizes[0]
        return self.learning_rate(ScheduleContext(epoch, step, size, first, self.first_steps))
