"""One step of mini-batch SGD."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.torch_adapter import foreach_add_, foreach_mul_
from accelerando.training.batch_norm import SyncBatchNorm2d, synchronized_statistics
from accelerando.training.out_of_memory import raise_together
from accelerando.training.precision import matmul_precision, training_forward


class SgdStep:
    """θ ← θ - η v, where v is the gradient of the batch's mean loss with weight decay and momentum.

    Weight decay λ adds λ θ to the gradient g. Momentum μ makes v = μ v + g (v = g at the first
    step); Nesterov's variant uses g + μ v. These are the rules of torch.optim.SGD without
    dampening. The host never waits for the device. With several processes, each computes the
    gradient sum over its share of the batch; the sums are added and divided by the batch size.

    Args:
        model: trained in place; its training mode is not changed.
        momentum: μ, at least 0; 0 is plain SGD, as in the paper.
        nesterov: use Nesterov's variant.
        weight_decay: λ, at least 0.
        team: the processes that compute the step together.
        micro_batch: at most this many examples per pass, with accumulated gradients; None for no
            limit.
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
        self._momentum, self._nesterov, self._weight_decay = momentum, nesterov, weight_decay
        self._team, self._micro_batch, self._precision = team, micro_batch, precision
        self._forward = training_forward(model, precision, compiled=compiled)
        self._sync_layers = [m for m in model.modules() if isinstance(m, SyncBatchNorm2d)]
        # entering a context manager takes a noticeable part of a small model's step
        self._needs_context = precision == "tf32" or bool(self._sync_layers)
        self._scales: dict[int, Tensor] = {}
        self.velocity: list[Tensor] = []

    def __call__(
        self, images: Tensor, labels: Tensor, learning_rate: float, batch_size: int | None = None
    ) -> Tensor:
        """Update the parameters; return the sum of the examples' losses before the update.

        Args:
            images: this process's share of the batch, shape (m, ...).
            labels: likewise, shape (m,).
            learning_rate: η.
            batch_size: examples in the complete batch; None if this process has all of them.

        Raises:
            RuntimeError: this process ran out of memory; the parameters are unchanged.
            MemoryError: another process of the team did; the parameters are unchanged.
        """
        # synchronised statistics are collective too: if memory runs out between them, the
        # processes can no longer agree on anything, and the team ends
        with raise_together(SINGLE_PROCESS if self._sync_layers else self._team):
            gradients, loss = self.gradients(
                images, labels, len(labels) if batch_size is None else batch_size
            )
        with torch.no_grad():
            self._team.all_reduce([*gradients, loss])
            direction = self._direction(gradients)
            foreach_add_(self._parameters, direction, alpha=-learning_rate)
        return loss

    def gradients(
        self, images: Tensor, labels: Tensor, batch_size: int
    ) -> tuple[list[Tensor], Tensor]:
        """Return this share's part of the gradient of the batch's mean loss, and its sum of losses.

        Arguments as in ``__call__``.
        """
        if not len(labels) and not self._sync_layers:  # the batch is smaller than the team
            zeros = [torch.zeros_like(p) for p in self._parameters]
            return zeros, torch.zeros((), device=labels.device)
        total: list[Tensor] = []
        losses: list[Tensor] = []
        for inputs, targets in self._micro_batches(images, labels):
            with self._context(batch_size) if self._needs_context else nullcontext():
                loss = cross_entropy(self._forward(inputs), targets, reduction="sum")
                # scaling the incoming gradient instead of the loss saves two small kernels
                if batch_size not in self._scales:
                    self._scales[batch_size] = torch.full_like(loss, 1 / batch_size)
                scale = self._scales[batch_size]
                gradients = list(torch.autograd.grad(loss, self._parameters, scale))
            losses.append(loss.detach())
            if total:
                foreach_add_(total, gradients)
            else:
                total = gradients
        return total, sum(losses[1:], start=losses[0])

    @contextmanager
    def _context(self, batch_size: int) -> Iterator[None]:
        """Set up TF32 and synchronised BatchNorm for one forward and backward pass."""
        with (
            matmul_precision(self._precision),
            synchronized_statistics(self._sync_layers, self._team, batch_size),
        ):
            yield

    def _micro_batches(self, images: Tensor, labels: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """Split a share into micro-batches, equal in size to within one example."""
        if self._micro_batch is None or len(labels) <= self._micro_batch:
            return [(images, labels)]
        count = -(-len(labels) // self._micro_batch)
        return zip(images.tensor_split(count), labels.tensor_split(count), strict=True)

    def _direction(self, gradients: list[Tensor]) -> list[Tensor]:
        """Return v, given the gradients, which may be changed in place."""
        if self._weight_decay:
            foreach_add_(gradients, self._parameters, alpha=self._weight_decay)
        if not self._momentum:
            return gradients
        if not self.velocity:
            self.velocity = [g.clone() for g in gradients]
        else:
            foreach_mul_(self.velocity, self._momentum)
            foreach_add_(self.velocity, gradients)
        if not self._nesterov:
            return self.velocity
        foreach_add_(gradients, self.velocity, alpha=self._momentum)
        return gradients
