"""One step of mini-batch SGD."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.training.batch_norm import TeamBatchNorm2d, over_team
from accelerando.training.memory import raise_together
from accelerando.training.precision import matmul_precision, training_forward


class SgdStep:
    """θ ← θ - η v with v the gradient of the batch's mean loss, after weight decay and momentum.

    Weight decay λ adds λ θ to the gradient g; momentum μ makes v = μ v + g (v = g at the first
    step), Nesterov's variant uses g + μ v: the rules of torch.optim.SGD, without its dampening.
    Nothing on the host waits for the device. Of several processes each computes the sum over its
    share of the batch; the sums of all are divided by the size of the batch.

    Args:
        model: trained in place; its training mode is the caller's.
        momentum: μ, at least 0; 0 is plain SGD, as in the paper.
        nesterov: use Nesterov's variant.
        weight_decay: λ, at least 0.
        team: the processes that make the step together.
        micro_batch: at most so many examples at a time, their gradients added up; None: all.
        precision: fp32, tf32 or bf16.
        compiled: use torch.compile.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        team: Team = SINGLE_PROCESS,
        micro_batch: int | None = None,
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self._parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._momentum, self._nesterov, self._decay = momentum, nesterov, weight_decay
        self._team, self._micro_batch, self._precision = team, micro_batch, precision
        self._forward = training_forward(model, precision, compiled=compiled)
        self._synchronised = any(isinstance(m, TeamBatchNorm2d) for m in model.modules())
        self._plain = precision != "tf32" and not self._synchronised
        self._scales: dict[int, Tensor] = {}
        self.velocity: list[Tensor] = []

    def __call__(
        self, images: Tensor, labels: Tensor, learning_rate: float, count: int | None = None
    ) -> Tensor:
        """Update the parameters; return the sum of the examples' losses before it, a scalar.

        Args:
            images: this process's share of the batch, shape (m, ...).
            labels: likewise, shape (m,).
            learning_rate: η.
            count: examples in the whole batch; None: these are all.

        Raises:
            MemoryError: as torch's own, also where another process of the team had no memory; the
                parameters are as they were.
        """
        # synchronised statistics are sums too: memory that runs out between them just ends the team
        with raise_together(SINGLE_PROCESS if self._synchronised else self._team):
            gradients, loss = self.gradients(
                images, labels, len(labels) if count is None else count
            )
        with torch.no_grad():
            self._team.all_reduce([*gradients, loss])
            direction = self._direction(gradients)
            torch._foreach_add_(self._parameters, direction, alpha=-learning_rate)
        return loss

    def gradients(self, images: Tensor, labels: Tensor, count: int) -> tuple[list[Tensor], Tensor]:
        """This share's part of the gradient of the mean loss over ``count`` examples.

        Returns:
            The gradient by each parameter, and the sum of the losses.
        """
        if not len(labels) and not self._synchronised:  # of a batch smaller than the team
            nothing = [torch.zeros_like(p) for p in self._parameters]
            return nothing, torch.zeros((), device=labels.device)
        total: list[Tensor] = []
        losses: list[Tensor] = []
        for part, targets in self._parts(images, labels):
            with nullcontext() if self._plain else self._around(count):
                loss = cross_entropy(self._forward(part), targets, reduction="sum")
                # scaling what goes back rather than the loss spares two operations of a small step
                if count not in self._scales:
                    self._scales[count] = torch.full_like(loss, 1 / count)
                scale = self._scales[count]
                found = list(torch.autograd.grad(loss, self._parameters, scale))
            losses.append(loss.detach())
            if total:
                torch._foreach_add_(total, found)
            else:
                total = found
        return total, sum(losses[1:], start=losses[0])

    @contextmanager
    def _around(self, count: int) -> Iterator[None]:
        """What forward and backward of a part of ``count`` examples are made in, where anything."""
        with matmul_precision(self._precision), over_team(self._team, count):
            yield

    def _parts(self, images: Tensor, labels: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """What is computed at a time, equal to within one example."""
        if self._micro_batch is None or len(labels) <= self._micro_batch:
            return [(images, labels)]
        count = -(-len(labels) // self._micro_batch)
        return zip(images.tensor_split(count), labels.tensor_split(count), strict=True)

    def _direction(self, gradients: list[Tensor]) -> list[Tensor]:
        if self._decay:
            torch._foreach_add_(gradients, self._parameters, alpha=self._decay)
        if not self._momentum:
            return gradients
        if not self.velocity:
            self.velocity = [g.clone() for g in gradients]
        else:
            torch._foreach_mul_(self.velocity, self._momentum)
            torch._foreach_add_(self.velocity, gradients)
        if not self._nesterov:
            return self.velocity
        torch._foreach_add_(gradients, self.velocity, alpha=self._momentum)
        return gradients
