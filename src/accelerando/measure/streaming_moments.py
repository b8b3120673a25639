"""Mean and scatter of the chunks' gradients, loss and accuracy, accumulated in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from accelerando.distributed import Team
from accelerando.torch_adapter import foreach_lerp_, foreach_norm

MAX_PENDING = 16
"""Chunks whose losses and scores are kept before they are evaluated together."""


class LossAccuracy:
    """Accumulates mean loss and accuracy over chunks.

    Chunks are evaluated several at once, because a handful of operations per chunk takes a
    noticeable part of a small model's pass.

    Args:
        examples: number of examples in all chunks together.
    """

    def __init__(self, examples: int) -> None:
        self._examples, self._loss, self._correct = examples, 0.0, 0
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Add a chunk, given its mean loss, its scores and its labels."""
        self._pending.append((loss, scores, labels))
        if len(self._pending) == MAX_PENDING:
            self._evaluate_pending()

    def _evaluate_pending(self) -> None:
        if not self._pending:
            return
        losses, scores, labels = zip(*self._pending, strict=True)
        for loss, chunk_labels in zip(torch.stack(losses).tolist(), labels, strict=True):
            self._loss += loss * (len(chunk_labels) / self._examples)
        self._correct += int((torch.cat(scores).argmax(1) == torch.cat(labels)).sum())
        self._pending.clear()

    def all_reduce(self, team: Team, device: torch.device) -> tuple[float, float]:
        """Return the mean loss and the accuracy over all processes of ``team``."""
        self._evaluate_pending()
        if team.world_size == 1:
            return self._loss, self._correct / self._examples
        loss = torch.tensor(self._loss, dtype=torch.float64, device=device)
        correct = torch.tensor(self._correct, device=device)
        team.all_reduce([loss, correct])
        return float(loss), int(correct) / self._examples


PIECE = 2**17
"""Elements that are converted to float64 at once."""


def squared_norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the squared norm of each tensor, computed in float64, shape (tensors,)."""
    small = [t for t in tensors if t.numel() <= PIECE]
    norms = iter(foreach_norm(small, 2, torch.float64) if small else ())
    large = (_norm_in_pieces(t) for t in tensors if t.numel() > PIECE)
    return torch.stack([next(norms if t.numel() <= PIECE else large) for t in tensors]).square()


def _norm_in_pieces(tensor: Tensor) -> Tensor:
    """Return the norm without converting the tensor at once, which takes twice its memory."""
    buffer = torch.empty(PIECE, dtype=torch.float64, device=tensor.device)
    squares = []
    for piece in torch.split(tensor.reshape(-1), PIECE):
        exact = buffer[: len(piece)].copy_(piece)
        squares.append(torch.dot(exact, exact))
    return torch.stack(squares).sum().sqrt()


class Scatter(NamedTuple):
    """Variance of the per-example gradient, E‖∇f_i(θ) - ∇f(θ)‖², and its standard error."""

    variance: float
    error: float


MIN_CHUNKS = 8
"""Number of chunks from which their scatter gives a usable standard error."""


class MeanGradient:
    """Accumulates the mean gradients of chunks into the mean over all examples.

    Let ḡ_k be the mean gradient of chunk k with c_k examples, and m_k the mean over the first
    k chunks with C_k examples. Welford's terms t_k = (C_{k-1} c_k / C_k) ‖ḡ_k - m_{k-1}‖²,
    k = 2 … K, sum to Σ c_k ‖ḡ_k - ḡ‖² without knowing ḡ in advance. For chunks of a random
    permutation each term has the expectation S² = Σ_i ‖g_i - ḡ‖² / (n - 1), so their mean
    estimates S², and their spread gives its standard error (they are Helmert contrasts and thus
    uncorrelated). Memory: one copy of the parameters, plus temporarily one more tensor if the
    scatter is measured.

    Args:
        parameters: tensors with the shapes of the gradients.
        scatter: also measure the variance.
    """

    def __init__(self, parameters: Sequence[Tensor], *, scatter: bool) -> None:
        # a running mean in less than float32 stops changing after a few hundred chunks
        self._dtypes = [torch.promote_types(p.dtype, torch.float32) for p in parameters]
        self._converts = any(p.dtype != d for p, d in zip(parameters, self._dtypes, strict=True))
        self._parameters, self._scatter, self._count = parameters, scatter, 0
        self.mean: list[Tensor] = []
        # number of terms, their sum, and the sum of their squares
        if scatter:
            self._terms = torch.zeros(3, dtype=torch.float64, device=parameters[0].device)

    def add(self, gradients: Sequence[Tensor], count: int) -> None:
        """Add the mean gradient of a chunk of ``count`` examples, which is not modified."""
        if self._converts:
            gradients = [g.to(d) for g, d in zip(gradients, self._dtypes, strict=True)]
        total = self._count + count
        if not self._count:  # cloned because autograd may return tensors that share memory
            self.mean, self._count = [g.clone() for g in gradients], count
            return
        if self._scatter:
            pairs = zip(gradients, self.mean, strict=True)
            distance = torch.cat([squared_norms([g - m]) for g, m in pairs]).sum()
            term = distance * (self._count * count / total)
            self._terms += torch.stack([torch.ones_like(term), term, term.square()])
        foreach_lerp_(self.mean, list(gradients), count / total)  # m + (g - m) c / C
        self._count = total

    def all_reduce(self, team: Team) -> MeanGradient:
        """Combine the means of all processes of ``team``.

        The mean of each process is added like the mean of one more chunk; the formula is the same.
        """
        if team.world_size == 1:
            return self
        combined = MeanGradient(self._parameters, scatter=self._scatter)
        # a process without chunks participates too
        shapes = list(zip(self._parameters, self._dtypes, strict=True))
        local_mean = self.mean or [torch.zeros_like(p, dtype=d) for p, d in shapes]
        counts = torch.zeros(team.world_size, dtype=torch.int64)
        counts[team.rank] = self._count
        team.all_reduce([counts])
        for rank, count in enumerate(counts.tolist()):
            if count:
                mean = [m.clone(memory_format=torch.contiguous_format) for m in local_mean]
                team.broadcast(mean, rank)
                combined.add(mean, count)
        if self._scatter:
            team.all_reduce([self._terms])
            combined._terms += self._terms
        return combined

    def scatter(self) -> Scatter:
        """Return the variance of the per-example gradient and its standard error.

        The error is NaN for fewer than ``MIN_CHUNKS`` chunks: with three, two standard errors
        cover the variance in 70 % of cases.

        Raises:
            ValueError: there are fewer than two chunks.
        """
        terms, total, squares = self._terms.tolist()
        if terms < 1:
            raise ValueError("the variance needs at least two chunks: use a smaller chunk")
        finite, mean = (self._count - 1) / self._count, total / terms
        if terms < MIN_CHUNKS - 1:
            return Scatter(mean * finite, math.nan)
        spread = math.sqrt(max(0.0, squares - terms * mean**2) / (terms - 1))
        return Scatter(mean * finite, spread * finite / math.sqrt(terms))
