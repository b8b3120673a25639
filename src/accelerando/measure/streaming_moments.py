"""The mean of per-example gradients over chunks, and how much they scatter, in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from accelerando.distributed import Team


class Scatter(NamedTuple):
    """Variance of the per-example gradient, E‖∇f_i(θ) - ∇f(θ)‖², with its standard error."""

    variance: float
    error: float


HELD = 16
"""Chunks whose scores are kept until they are looked at together."""


class LossCounter:
    """Mean loss and right answers over chunks.

    For a small model a handful of operations after every chunk is a good part of its pass; so
    chunks are taken in several at a time, and no more are held than that.

    Args:
        examples: in all chunks together.
    """

    def __init__(self, examples: int) -> None:
        self._examples, self._loss, self._right = examples, 0.0, 0
        self._held: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, loss: Tensor, scores: Tensor, targets: Tensor) -> None:
        """Take in a chunk: its mean loss, what the model said, and what is right."""
        self._held.append((loss, scores, targets))
        if len(self._held) == HELD:
            self._take_in()

    def _take_in(self) -> None:
        if not self._held:
            return
        losses, scores, targets = zip(*self._held, strict=True)
        for loss, part in zip(torch.stack(losses).tolist(), targets, strict=True):
            self._loss += loss * (len(part) / self._examples)
        self._right += int((torch.cat(scores).argmax(1) == torch.cat(targets)).sum())
        self._held.clear()

    def over(self, team: Team, device: torch.device) -> tuple[float, float]:
        """Mean loss and share of right answers of all processes of a team."""
        self._take_in()
        if team.world_size == 1:
            return self._loss, self._right / self._examples
        loss = torch.tensor(self._loss, dtype=torch.float64, device=device)
        right = torch.tensor(self._right, device=device)
        team.all_reduce([loss, right])
        return float(loss), int(right) / self._examples


PIECE = 2**17
"""Elements that are converted to float64 at a time."""


def squared_norms(tensors: Sequence[Tensor]) -> Tensor:
    """Squared norm of each tensor, in float64, shape (tensors,)."""
    small = [t for t in tensors if t.numel() <= PIECE]
    norms = iter(torch._foreach_norm(small, 2, torch.float64) if small else ())
    large = (_norm_in_pieces(t) for t in tensors if t.numel() > PIECE)
    return torch.stack([next(norms if t.numel() <= PIECE else large) for t in tensors]).square()


def _norm_in_pieces(tensor: Tensor) -> Tensor:
    """Torch's norm converts the whole tensor first, which takes twice its memory."""
    exact = torch.empty(PIECE, dtype=torch.float64, device=tensor.device)
    found = []
    for piece in torch.split(tensor.reshape(-1), PIECE):
        part = exact[: len(piece)].copy_(piece)
        found.append(torch.dot(part, part))
    return torch.stack(found).sum().sqrt()


class MeanGradient:
    """Streams mean gradients of chunks into the mean over all examples.

    With ḡ_k the mean gradient of chunk k, of c_k examples, and m_k, C_k those of all chunks up to
    k, Welford's terms t_k = (C_{k-1} c_k / C_k) ‖ḡ_k - m_{k-1}‖², k = 2 … K, add up to
    Σ c_k ‖ḡ_k - ḡ‖² without ḡ being known beforehand. For chunks of a random permutation each has
    the expectation S² = Σ_i ‖g_i - ḡ‖² / (n - 1): their mean estimates it, and their spread says
    how well (they are Helmert contrasts, so uncorrelated). Memory: one copy of the parameters
    (and one tensor more for a moment, where the scatter is measured).

    Args:
        parameters: tensors whose shapes the gradients have.
        scatter: also measure the variance.
    """

    def __init__(self, parameters: Sequence[Tensor], *, scatter: bool) -> None:
        # a mean in less than float32 stops moving after a few hundred chunks
        self._dtypes = [torch.promote_types(p.dtype, torch.float32) for p in parameters]
        self._converts = any(p.dtype != d for p, d in zip(parameters, self._dtypes, strict=True))
        self._parameters, self._scatter, self._count = parameters, scatter, 0
        self.mean: list[Tensor] = []
        # number of terms, their sum, and that of their squares
        if scatter:
            self._terms = torch.zeros(3, dtype=torch.float64, device=parameters[0].device)

    def add(self, gradients: Sequence[Tensor], count: int) -> None:
        """Take in the mean gradient of a chunk of ``count`` examples, which is not changed."""
        if self._converts:
            gradients = [g.to(d) for g, d in zip(gradients, self._dtypes, strict=True)]
        total = self._count + count
        if not self._count:  # a copy, since those of others may share memory
            self.mean, self._count = [g.clone() for g in gradients], count
            return
        if self._scatter:
            pairs = zip(gradients, self.mean, strict=True)
            distance = torch.cat([squared_norms([g - m]) for g, m in pairs]).sum()
            term = distance * (self._count * count / total)
            self._terms += torch.stack([torch.ones_like(term), term, term.square()])
        torch._foreach_lerp_(self.mean, list(gradients), count / total)  # m + (g - m) c / C
        self._count = total

    def over(self, team: Team) -> MeanGradient:
        """That of all processes of a team, of which each has taken in its own chunks.

        A process's mean is taken in like the mean of one more chunk: the same formula holds.
        """
        if team.world_size == 1:
            return self
        whole = MeanGradient(self._parameters, scatter=self._scatter)
        # a process without chunks takes part all the same
        shapes = list(zip(self._parameters, self._dtypes, strict=True))
        mine = self.mean or [torch.zeros_like(p, dtype=d) for p, d in shapes]
        counts = torch.zeros(team.world_size, dtype=torch.int64)
        counts[team.rank] = self._count
        team.all_reduce([counts])
        for rank, count in enumerate(counts.tolist()):
            if count:
                mean = [m.clone(memory_format=torch.contiguous_format) for m in mine]
                team.broadcast(mean, rank)
                whole.add(mean, count)
        if self._scatter:
            team.all_reduce([self._terms])
            whole._terms += self._terms
        return whole

    def square(self) -> Tensor:
        """Squared norm of each tensor of the mean, in float64, shape (tensors,)."""
        return squared_norms(self.mean)

    def scatter(self) -> Scatter:
        """Variance of the per-example gradient and its standard error.

        Raises:
            ValueError: fewer than two chunks, or the scatter was not asked for.
        """
        terms, total, squares = self._terms.tolist()
        if terms < 1:
            raise ValueError("the variance needs at least two chunks: make chunk smaller")
        finite, mean = (self._count - 1) / self._count, total / terms
        if terms < 2:
            return Scatter(mean * finite, math.nan)
        spread = math.sqrt(max(0.0, squares - terms * mean**2) / (terms - 1))
        return Scatter(mean * finite, spread * finite / math.sqrt(terms))
