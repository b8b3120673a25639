"""A data set split into fixed chunks, the input of every measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from accelerando.checks import check_integer
from accelerando.distributed import SINGLE_PROCESS, Team

DEFAULT_CHUNK = 512
"""Examples per chunk if a run does not set ``measure.chunk``."""

Indices = Tensor | slice
"""Which examples: their indices, shape (m,), or a contiguous range."""


class Examples(Protocol):
    """Labelled examples, in memory or streamed."""

    @property
    def labels(self) -> Tensor:
        """Shape (n,), int64, on the device of the model."""
        ...

    def read(self, indices: Sequence[Indices], /) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images, in the model's format and not augmented, and labels of each item."""
        ...


@dataclass(frozen=True)
class TensorExamples:
    """Examples stored in two tensors.

    Args:
        images: in the format the model expects, shape (n, ...).
        labels: int64, shape (n,).

    Raises:
        ValueError: an argument has the wrong type or shape, or a label is negative.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, Tensor):
                raise ValueError(f"{name} must be a tensor, got {type(value).__name__}")
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise ValueError(
                "labels must be class indices, int64 of shape (n,), "
                f"got {self.labels.dtype} of shape {tuple(self.labels.shape)}"
            )
        images, labels = len(self.images), len(self.labels)
        if labels < 1 or images != labels:
            raise ValueError(
                "images and labels must have the same length, at least 1, "
                f"got {images} images and {labels} labels"
            )
        # cross_entropy would silently ignore an example with label -100
        if (smallest := int(self.labels.min())) < 0:
            raise ValueError(f"labels must be at least 0, got {smallest}")

    def read(self, indices: Sequence[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        for index in indices:
            yield self.images[index], self.labels[index]


def never_interrupt() -> None:
    """Do nothing; the default for ``check_interrupt``."""


@dataclass(frozen=True)
class Chunks:
    """Chunks of fixed composition; iterating yields the share of this process.

    Args:
        data: the examples.
        indices: the examples in each chunk.
        team: the processes that measure together; chunk k goes to rank k mod world_size.
        check_interrupt: called before each chunk; it may raise to stop a measurement, which
            leaves the model unchanged.
    """

    data: Examples
    indices: Sequence[Indices]
    team: Team = SINGLE_PROCESS
    check_interrupt: Callable[[], None] = never_interrupt

    @property
    def device(self) -> torch.device:
        return self.data.labels.device

    @property
    def examples(self) -> int:
        """Number of examples in all chunks, including those of other processes."""
        return sum(map(_length, self.indices))

    @property
    def largest(self) -> int:
        """Number of examples in the largest chunk."""
        return max(map(_length, self.indices))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of the chunks of this process."""
        share = self.indices[self.team.rank :: self.team.world_size]
        for chunk in self.data.read(share):
            self.check_interrupt()
            yield chunk
        # it may be a collective call, so every process makes the same number of calls
        if len(share) < -(-len(self.indices) // self.team.world_size):
            self.check_interrupt()


def _length(indices: Indices) -> int:
    return indices.stop - indices.start if isinstance(indices, slice) else len(indices)


def split_into_chunks(
    data: Examples,
    chunk: int,
    *,
    order: Tensor | None = None,
    team: Team = SINGLE_PROCESS,
    check_interrupt: Callable[[], None] = never_interrupt,
) -> Chunks:
    """Split all examples into chunks of equal size to within one example.

    Args:
        data: the examples.
        chunk: at most this many examples per chunk, at least 1.
        order: a permutation that determines which examples form a chunk, shape (n,); None keeps
            the given order.
        team: see ``Chunks``.
        check_interrupt: see ``Chunks``.

    Raises:
        ValueError: ``chunk`` is below 1, or ``order`` is not a permutation.
    """
    check_integer("chunk", chunk, 1)
    examples = len(data.labels)
    count = -(-examples // chunk)
    if order is not None:
        identity = torch.arange(examples, device=order.device)
        if not torch.equal(order.sort().values, identity):
            raise ValueError(f"order must be a permutation of the indices of {examples} examples")
        return Chunks(data, order.tensor_split(count), team, check_interrupt)
    size, remainder = divmod(examples, count)
    ends = [0] + [size * k + min(k, remainder) for k in range(1, count + 1)]
    indices = [slice(begin, end) for begin, end in pairwise(ends)]
    return Chunks(data, indices, team, check_interrupt)
