"""The processes that compute one run together, each on a device of its own."""

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
    """Another process of the team ended; nothing more can be computed together."""


@contextmanager
def _heard() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL have no kind of their own for it
        raise ProcessLost(
            "another process of the run was lost, and said why if it could; "
            f"the same command goes on from the last checkpoint ({str(error).splitlines()[0]})"
        ) from error


@dataclass(frozen=True)
class Team:
    """One process's place among those of a run; alone it does nothing and costs nothing.

    Its methods, but for ``share``, are collective: every process of the team calls them in the same
    order. They raise Lost where another process has ended.

    Args:
        rank: which of them this is; rank 0 leads: it alone writes files and shows progress.
        world_size: number of processes, at least 1.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of ``count`` things: the first ones have one more where need be."""
        each, more = divmod(count, self.world_size)
        begin = self.rank * each + min(self.rank, more)
        return slice(begin, begin + each + (self.rank < more))

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the team, in place, in one message for each type."""
        if self.world_size == 1:
            return
        for kind in dict.fromkeys(t.dtype for t in tensors):  # in the same order everywhere
            same = [t for t in tensors if t.dtype == kind]
            message = torch.cat([t.reshape(-1) for t in same])
            with _heard():
                dist.all_reduce(message)
            parts = torch.split(message, [t.numel() for t in same])
            for tensor, part in zip(same, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def broadcast(self, tensors: Sequence[Tensor], rank: int = 0) -> None:
        """Replace each tensor by that of ``rank``, in place."""
        if self.world_size > 1:
            with _heard():
                for tensor in tensors:
                    dist.broadcast(tensor, rank)

    def any(self, value: bool) -> bool:
        """Whether ``value`` holds in any process of the team."""
        if self.world_size == 1:
            return value
        flag = torch.tensor(int(value))
        with _heard():
            dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def broadcast_bytes(self, content: bytes) -> bytes:
        """The leader's ``content``, in every process."""
        if self.world_size == 1:
            return content
        length = torch.tensor(len(content))
        self.broadcast([length])
        message = torch.empty(int(length), dtype=torch.uint8)
        if self.is_main:
            message.numpy()[:] = np.frombuffer(content, dtype=np.uint8)
        self.broadcast([message])
        return message.numpy().tobytes()


SINGLE_PROCESS = Team()
