"""Where a run stands, and what its schedule says there."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class Progress(NamedTuple):
    """All the position there is in a run; the sampler, the checkpoint and the record use it.

    Offsets, not step numbers, survive a change of batch size or of the number of processes.
    """

    epoch: int = 0
    offset: int = 0
    """Examples already used in this epoch."""
    step: int = 0
    """Steps taken since the start of the run."""


class Setting(NamedTuple):
    """What one step is made with."""

    batch_size: int
    learning_rate: float


class ScheduleContext(NamedTuple):
    """What a learning-rate shape may look at.

    ``step`` may be an array of steps of one epoch: a shape that changes from step to step then
    returns an array, one that is constant within an epoch a number.
    """

    epoch: int
    step: int | IntArray
    batch_size: int
    initial_batch_size: int
    first_steps: IntArray
    """Steps taken before each epoch, and in the whole run: length epochs + 1."""

    @property
    def epochs(self) -> int:
        return len(self.first_steps) - 1

    @property
    def steps(self) -> int:
        """Steps of the whole run, T."""
        return int(self.first_steps[-1])

    def after(self, epochs: int) -> ScheduleContext:
        """The same moment as seen by a run that begins ``epochs`` epochs later."""
        begin = self.first_steps[epochs]
        return self._replace(
            epoch=self.epoch - epochs,
            step=self.step - begin,
            first_steps=self.first_steps[epochs:] - begin,
        )


class BatchSize(Protocol):
    """A shape of the batch size: examples per batch in each epoch."""

    @property
    def initial(self) -> int: ...

    def __call__(self, *, epoch: int, epochs: int) -> int:
        """Examples per batch in ``epoch`` of a run of ``epochs``."""
        ...

    def check(self, *, epochs: int, examples: int) -> None:
        """Raise ValueError where the shape does not fit a run of this length and data."""
        ...


class LearningRate(Protocol):
    """A shape of the learning rate: a pure function of the moment."""

    def __call__(self, moment: ScheduleContext) -> float | npt.NDArray[np.float64]: ...

    def check(self, *, epochs: int) -> None:
        """Raise ValueError where the shape does not fit a run of this length."""
        ...
