"""One step of mini-batch SGD."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class SgdStep:
    """θ ← θ - η v with v the gradient of the batch's mean loss, after weight decay and momentum.

    Weight decay λ adds λ θ to the gradient g; momentum μ makes v = μ v + g (v = g at the first
    step), Nesterov's variant uses g + μ v: the rules of torch.optim.SGD, without its dampening.
    Nothing on the host waits for the device.

    Args:
        model: trained in place; its training mode is the caller's.
        momentum: μ, at least 0; 0 is plain SGD, as in the paper.
        nesterov: use Nesterov's variant.
        weight_decay: λ, at least 0.
    """

    def __init__(
        self, model: nn.Module, *, momentum: float, nesterov: bool, weight_decay: float
    ) -> None:
        self._model = model
        self._parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._momentum, self._nesterov, self._decay = momentum, nesterov, weight_decay
        self.velocity: list[Tensor] = []

    def __call__(self, images: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        """Update the parameters; return the sum of the examples' losses before it, a scalar."""
        loss = cross_entropy(self._model(images), labels)
        gradients = list(torch.autograd.grad(loss, self._parameters))
        with torch.no_grad():
            direction = self._direction(gradients)
            torch._foreach_add_(self._parameters, direction, alpha=-learning_rate)
        return loss.detach() * len(labels)

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
