"""The mean of per-example gradients over chunks, and how much they scatter, in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from accelerando.team import Team


class Scatter(NamedTuple):
    """Variance of the per-example gradient, E‖∇f_i(θ) - ∇f(θ)‖², with its standard error."""

    variance: float
    error: float


class MeanGradient:
    """Streams mean gradients of chunks into the mean over all examples.

    With ḡ_k the mean gradient of chunk k, of c_k examples, and m_k, C_k those of all chunks up to
    k, Welford's terms t_k = (C_{k-1} c_k / C_k) ‖ḡ_k - m_{k-1}‖², k = 2 … K, add up to
    Σ c_k ‖ḡ_k - ḡ‖² without ḡ being known beforehand. For chunks of a random permutation each has
    the expectation S² = Σ_i ‖g_i - ḡ‖² / (n - 1): their mean estimates it, and their spread says
    how well (they are Helmert contrasts, so uncorrelated). Memory: one copy of the parameters,
    and one tensor more for a moment where scatter is wanted.

    Args:
        parameters: tensors whose shapes the gradients have.
        scatter: also measure the variance.
    """

    def __init__(self, parameters: Sequence[Tensor], *, scatter: bool) -> None:
        # a mean in less than float32 stops moving after a few hundred chunks
        self.mean = [
            torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32))
            for p in parameters
        ]
        self._scatter, self._count = scatter, 0
        # number of terms, their sum, and that of their squares
        self._terms = torch.zeros(3, dtype=torch.float64, device=self.mean[0].device)

    def add(self, gradients: Sequence[Tensor], count: int) -> None:
        """Take in the mean gradient of a chunk of ``count`` examples."""
        total = self._count + count
        gradients = [g.to(m.dtype) for g, m in zip(gradients, self.mean, strict=True)]
        if self._scatter and self._count:
            squares = [
                torch.linalg.vector_norm(g - m, dtype=torch.float64).square()
                for g, m in zip(gradients, self.mean, strict=True)
            ]
            term = torch.stack(squares).sum() * (self._count * count / total)
            self._terms += torch.stack([torch.ones_like(term), term, term.square()])
        # m + (g - m) c / C, in place
        torch._foreach_lerp_(self.mean, gradients, count / total)
        self._count = total

    def over(self, team: Team) -> MeanGradient:
        """That of all processes of a team, of which each has taken in its own chunks.

        A process's mean is taken in like the mean of one more chunk: the same formula holds.
        """
        if team.ranks == 1:
            return self
        whole = MeanGradient(self.mean, scatter=self._scatter)
        counts = torch.zeros(team.ranks, dtype=torch.int64)
        counts[team.rank] = self._count
        team.total([counts])
        for rank, count in enumerate(counts.tolist()):
            if count:
                mean = [m.clone() for m in self.mean]
                team.spread(mean, rank)
                whole.add(mean, count)
        team.total([self._terms])
        whole._terms += self._terms
        return whole

    def square(self) -> Tensor:
        """Squared norm of each tensor of the mean, in float64, shape (tensors,)."""
        norms = [torch.linalg.vector_norm(m, dtype=torch.float64) for m in self.mean]
        return torch.stack(norms).square()

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
