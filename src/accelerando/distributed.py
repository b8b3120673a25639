"""The processes that train one run together (data parallel), each on its own device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from accelerando.checks import UsageError


class ProcessLost(UsageError):
    """Another process of the run has ended, so that collective operations fail."""


@contextmanager
def _raise_process_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL have no exception type for it
        raise ProcessLost(
            "another process of the run was lost, see its output; rerun the same command to "
            f"resume from the last checkpoint ({str(error).splitlines()[0]})"
        ) from error


@dataclass(frozen=True)
class Team:
    """The process group of a run, as seen by one of its processes.

    All methods except ``share`` are collective: every process calls them in the same order. In a
    single process they do nothing and need no initialised process group.

    Args:
        rank: of this process; rank 0 is the main process, which writes files and shows progress.
        world_size: number of processes, at least 1.

    Raises:
        ProcessLost: in collective methods, if another process has ended.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return this rank's part of ``count`` items; sizes differ by at most one.

        >>> [Team(rank, 3).share(8) for rank in range(3)]
        [slice(0, 3, None), slice(3, 6, None), slice(6, 8, None)]
        """
        size, remainder = divmod(count, self.world_size)
        begin = self.rank * size + min(self.rank, remainder)
        return slice(begin, begin + size + (self.rank < remainder))

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over all processes, in place, with one message per dtype."""
        if self.world_size == 1:
            return
        for dtype in dict.fromkeys(t.dtype for t in tensors):  # the same order in every process
            same = [t for t in tensors if t.dtype == dtype]
            flat = torch.cat([t.reshape(-1) for t in same])
            with _raise_process_lost():
                dist.all_reduce(flat)
            parts = torch.split(flat, [t.numel() for t in same])
            for tensor, part in zip(same, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def broadcast(self, tensors: Sequence[Tensor], rank: int = 0) -> None:
        """Copy each tensor from ``rank`` to all processes, in place."""
        if self.world_size > 1:
            with _raise_process_lost():
                for tensor in tensors:
                    dist.broadcast(tensor, rank)

    def any(self, value: bool) -> bool:
        """Return whether ``value`` is true in at least one process."""
        if self.world_size == 1:
            return value
        flag = torch.tensor(int(value))
        with _raise_process_lost():
            dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def broadcast_bytes(self, content: bytes) -> bytes:
        """Return the main process's ``content`` in all processes."""
        if self.world_size == 1:
            return content
        length = torch.tensor(len(content))
        self.broadcast([length])
        buffer = torch.empty(int(length), dtype=torch.uint8)
        if self.is_main:
            buffer.numpy()[:] = np.frombuffer(content, dtype=np.uint8)
        self.broadcast([buffer])
        return buffer.numpy().tobytes()


SINGLE_PROCESS = Team()
