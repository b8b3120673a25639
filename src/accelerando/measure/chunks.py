"""A data set in fixed chunks: what every measurement goes through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from accelerando.checks import whole
from accelerando.distributed import SINGLE_PROCESS, Team

CHUNK = 512
"""Examples per chunk, everywhere, unless a run says otherwise."""

Part = Tensor | slice
"""Which examples: indices, shape (m,), or a stretch of them."""


class Examples(Protocol):
    """Labelled examples, in memory or not."""

    @property
    def labels(self) -> Tensor:
        """Shape (n,), int64, where the model is."""
        ...

    def read(self, parts: Sequence[Part]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images as the model takes them, without augmentation, and labels, of each part."""
        ...


@dataclass(frozen=True)
class Tensors:
    """Examples that are plain tensors: images as the model takes them, shape (n, ...)."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, Tensor):
                raise ValueError(f"{name} must be a tensor, got {type(value).__name__}")
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise ValueError(
                "labels must be the numbers of the classes, int64 of shape (n,), "
                f"got {self.labels.dtype} of shape {tuple(self.labels.shape)}"
            )
        images, labels = len(self.images), len(self.labels)
        if labels < 1 or images != labels:
            raise ValueError(f"images and labels must be as many, at least 1: {images}, {labels}")
        if (least := int(self.labels.min())) < 0:  # cross-entropy would ignore such an example
            raise ValueError(f"labels must be at least 0, got {least}")

    def read(self, parts: Sequence[Part]) -> Iterator[tuple[Tensor, Tensor]]:
        for part in parts:
            yield self.images[part], self.labels[part]


def go_on() -> None:
    """Never stop between two chunks."""


@dataclass(frozen=True)
class Chunks:
    """Fixed chunks of fixed composition; each process of a team goes through its share of them.

    Args:
        data: the examples.
        parts: which of them each chunk holds.
        team: the processes that measure together: chunk k is for rank k mod world_size.
        check_interrupt: called at every chunk; what it raises ends the pass, and nothing was touched.
    """

    data: Examples
    parts: Sequence[Part]
    team: Team = SINGLE_PROCESS
    check_interrupt: Callable[[], None] = go_on

    @property
    def device(self) -> torch.device:
        return self.data.labels.device

    @property
    def examples(self) -> int:
        """Examples in all chunks, those of other processes included."""
        return sum(
            part.stop - part.start if isinstance(part, slice) else len(part) for part in self.parts
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of the chunks of this process."""
        mine = self.parts[self.team.rank :: self.team.world_size]
        for chunk in self.data.read(mine):
            self.check_interrupt()
            yield chunk
        # as often in every process: it may ask the team
        if len(mine) < -(-len(self.parts) // self.team.world_size):
            self.check_interrupt()


def in_chunks(
    data: Examples,
    chunk: int,
    *,
    order: Tensor | None = None,
    team: Team = SINGLE_PROCESS,
    check_interrupt: Callable[[], None] = go_on,
) -> Chunks:
    """All examples of ``data``, at most ``chunk`` at a time, equal chunks to within one example.

    Args:
        data: the examples.
        chunk: at least 1.
        order: permutation that composes the chunks, shape (n,); left out: as they stand.
        team: see ``Chunks``.
        check_interrupt: see ``Chunks``.

    Raises:
        ValueError: ``chunk`` is below 1, or ``order`` no permutation.
    """
    whole("chunk", chunk, 1)
    examples = len(data.labels)
    count = -(-examples // chunk)
    if order is not None:
        everything = torch.arange(examples, device=order.device)
        if not torch.equal(order.sort().values, everything):
            raise ValueError(f"order must be a permutation of {examples} examples, each once")
        return Chunks(data, order.tensor_split(count), team, check_interrupt)
    each, more = divmod(examples, count)
    ends = [0] + [each * k + min(k, more) for k in range(1, count + 1)]
    parts = [slice(begin, end) for begin, end in pairwise(ends)]
    return Chunks(data, parts, team, check_interrupt)
