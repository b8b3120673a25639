"""Positions in a run, the settings of a step, and the protocols of the shapes."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class Progress(NamedTuple):
    """A position in a run, used alike by the sampler, the checkpoint and the record.

    The offset within the epoch, unlike a step number, stays valid if the batch size or the number
    of processes changes.

    Args:
        epoch: index of the epoch, from 0.
        offset: examples already used in this epoch.
        step: steps taken since the start of the run.
    """

    epoch: int = 0
    offset: int = 0
    step: int = 0


class Setting(NamedTuple):
    """Batch size and learning rate of one step."""

    batch_size: int
    learning_rate: float


class ScheduleContext(NamedTuple):
    """Everything that a learning-rate shape may depend on.

    Args:
        epoch: index of the epoch, from 0.
        step: steps taken since the start of the run, or an array of them within one epoch. For an
            array, a shape that changes from step to step returns an array of the same length, and
            one that is constant within an epoch returns a number.
        batch_size: batch size in this epoch.
        initial_batch_size: batch size in the first epoch.
        first_steps: steps taken before each epoch and, last, in the entire run, shape
            (epochs + 1,).
    """

    epoch: int
    step: int | IntArray
    batch_size: int
    initial_batch_size: int
    first_steps: IntArray

    @property
    def epochs(self) -> int:
        return len(self.first_steps) - 1

    @property
    def total_steps(self) -> int:
        """Steps in the entire run, T."""
        return int(self.first_steps[-1])

    def shifted(self, epochs: int) -> ScheduleContext:
        """Return the same context as seen from a run that starts ``epochs`` epochs later."""
        first_step = self.first_steps[epochs]
        return self._replace(
            epoch=self.epoch - epochs,
            step=self.step - first_step,
            first_steps=self.first_steps[epochs:] - first_step,
        )


class BatchSize(Protocol):
    """A shape of the batch size: a function of the epoch."""

    @property
    def initial(self) -> int: ...

    def __call__(self, *, epoch: int, epochs: int) -> int:
        """Return the batch size in ``epoch`` of a run of ``epochs`` epochs."""
        ...

    def check(self, *, epochs: int, examples: int) -> None:
        """Raise ValueError if the shape does not fit this run length and training set."""
        ...


class LearningRate(Protocol):
    """A shape of the learning rate: a pure function of the context."""

    def __call__(self, context: ScheduleContext) -> float | npt.NDArray[np.float64]: ...

    def check(self, *, epochs: int) -> None:
        """Raise ValueError if the shape does not fit this run length."""
        ...
