"""Batches of scheduled sizes for anyone's own loop; it needs no torch itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accelerando.checks import whole
from accelerando.randomness import permutation
from accelerando.schedule.context import Progress
from accelerando.schedule.plan import START, Plan


class BatchSampler:
    """Indices of every batch from ``start`` to the end of the run, or of one epoch.

    For the argument ``batch_sampler`` of torch.utils.data.DataLoader. The size of a batch is
    decided by its position, never read from a live object: any number of workers may fetch ahead.

    Args:
        plan: the schedule, fitted to the run.
        seed: of the order of the examples, which is another one in every epoch.
        start: where to begin; a run resumes from its epoch and offset with ``plan.at``.
        one_epoch: stop at the end of the epoch that ``start`` lies in.
        rank: which of ``world_size`` processes this is; each gets its part of every batch, the first
            ones an example more where it does not divide (and the last ones none of a batch
            smaller than ``world_size``).
        world_size: number of processes, at least 1.

    >>> from accelerando.schedule import Constant, ExponentialBatch, Scheduler
    >>> sizes = ExponentialBatch(initial=2, growth=2, interval=1)
    >>> plan = Scheduler(batch_size=sizes, learning_rate=Constant(initial=0.1)).bind(
    ...     examples=5, epochs=2
    ... )
    >>> [len(batch) for batch in BatchSampler(plan, seed=0)]
    [2, 2, 1, 4, 1]
    """

    def __init__(
        self,
        plan: Plan,
        *,
        seed: int,
        start: Progress = START,
        one_epoch: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        whole("world_size", world_size, 1)
        whole("rank", rank, 0)
        if rank >= world_size:
            raise ValueError(f"rank must be below world_size ({world_size}), got {rank}")
        self._plan, self._seed, self._start, self._one_epoch = plan, seed, start, one_epoch
        self._rank, self._world_size = rank, world_size

    def _past(self) -> int:
        return (
            min(self._start.epoch + 1, self._plan.epochs) if self._one_epoch else self._plan.epochs
        )

    def __len__(self) -> int:
        """Batches that are left."""
        return max(0, int(self._plan.first_steps[self._past()]) - self._start.step)

    def __iter__(self) -> Iterator[list[int]]:
        order, of_epoch, examples = np.empty(0, np.int64), -1, self._plan.examples
        for epoch, offset, _ in self._plan.positions(self._start):
            if epoch >= self._past():
                return
            if epoch != of_epoch:
                order, of_epoch = permutation(self._seed, epoch, examples), epoch
            size = int(self._plan.batch_sizes[epoch])
            batch = order[offset : offset + size]
            yield np.array_split(batch, self._world_size)[self._rank].tolist()
