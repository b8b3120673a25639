"""A batch sampler that follows a plan, for any training loop; it does not need torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accelerando.checks import check_integer
from accelerando.randomness import permutation
from accelerando.schedule.context import Progress
from accelerando.schedule.plan import START, Plan


class BatchSampler:
    """Yields the indices of each batch, from ``start`` to the end of the run or of its epoch.

    Pass it to torch.utils.data.DataLoader as ``batch_sampler``. The size of a batch depends only
    on its position, so any number of workers may prefetch.

    Args:
        plan: the schedule of the run.
        seed: seed of the order of the examples, which is a new permutation in every epoch.
        start: first position; to resume, the ``plan.at`` of the saved epoch and offset.
        one_epoch: stop at the end of the epoch of ``start``.
        rank: index of this process among ``world_size``. Each process gets a contiguous part of
            every batch; if the sizes differ, the first ranks get one example more, and for a batch
            smaller than ``world_size`` the last ranks get none.
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
        check_integer("world_size", world_size, 1)
        check_integer("rank", rank, 0)
        if rank >= world_size:
            raise ValueError(f"rank must be below world_size ({world_size}), got {rank}")
        self._plan, self._seed, self._start = plan, seed, start
        self._rank, self._world_size = rank, world_size
        self._end_epoch = min(start.epoch + 1, plan.epochs) if one_epoch else plan.epochs

    def __len__(self) -> int:
        """Return the number of batches from ``start`` on."""
        return max(0, int(self._plan.first_steps[self._end_epoch]) - self._start.step)

    def __iter__(self) -> Iterator[list[int]]:
        order, order_epoch = np.empty(0, np.int64), -1
        for epoch, offset, _ in self._plan.positions(self._start):
            if epoch >= self._end_epoch:
                return
            if epoch != order_epoch:
                order, order_epoch = permutation(self._seed, epoch, self._plan.examples), epoch
            batch = order[offset : offset + int(self._plan.batch_sizes[epoch])]
            yield np.array_split(batch, self._world_size)[self._rank].tolist()
