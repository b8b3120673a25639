"""The full gradient: of the empirical loss over the whole training set, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from accelerando.checks import whole

CHUNK = 512
"""Examples per chunk, everywhere, unless a run says otherwise."""


@dataclass(frozen=True)
class FullGradient:
    """What one pass over the training set gives.

    Args:
        norm: ‖∇f(θ)‖, f the mean loss over all examples, each weighted 1/n.
        loss: f(θ).
        accuracy: share of examples whose largest output is their label.
    """

    norm: float
    loss: float
    accuracy: float


def full_gradient(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    chunk: int = CHUNK,
    batch_norm: str = "batch",
    order: Tensor | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    pause: Callable[[], None] | None = None,
) -> FullGradient:
    """Norm of the full gradient, empirical loss and accuracy in one pass.

    The model is measured in evaluation mode (no dropout), except that BatchNorm uses the
    statistics of each chunk where ``batch_norm`` is "batch". Parameters, their ``grad``, buffers,
    training mode and random states are left bitwise as they were. For a model without BatchNorm
    the result does not depend on ``chunk``.

    Args:
        model: maps (examples, ...) to scores of shape (examples, classes).
        images: shape (n, ...), float, or anything that ``prepare`` makes so.
        labels: int64, shape (n,).
        chunk: at most so many examples at a time, in equal chunks to within one example.
        batch_norm: "batch" (statistics of the chunk) or "running" (stored statistics).
        order: permutation that composes the chunks, shape (n,); as given where left out.
        prepare: turns a chunk of ``images`` into what the model takes, normalisation for example.
        pause: called between chunks; what it raises ends the pass, and nothing was touched.

    Raises:
        ValueError: a setting is out of range; the message says what is allowed.

    >>> import torch
    >>> from accelerando.measure import full_gradient
    >>> model = torch.nn.Linear(2, 2)
    >>> _ = torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
    >>> images, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    >>> result = full_gradient(model, images, labels)
    >>> round(result.norm, 4), round(result.loss, 4), result.accuracy
    (0.5, 0.6931, 0.5)
    """
    whole("chunk", chunk, 1)
    if batch_norm not in ("batch", "running"):
        raise ValueError(f"batch_norm must be batch or running, got {batch_norm!r}")
    examples = len(labels)
    if examples < 1 or len(images) != examples:
        raise ValueError(
            f"images and labels must be as many, at least 1: {len(images)}, {examples}"
        )
    indices = torch.arange(examples, device=labels.device) if order is None else order
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in parameters]
    loss = torch.zeros((), dtype=torch.float64, device=labels.device)
    correct = torch.zeros((), dtype=torch.int64, device=labels.device)
    with untouched(model, batch_norm) as forward:
        for part in indices.tensor_split(-(-examples // chunk)):
            if pause is not None:
                pause()
            inputs = images[part] if prepare is None else prepare(images[part])
            targets = labels[part]
            scores = forward(inputs)
            part_loss = cross_entropy(scores, targets, reduction="sum")
            gradients = torch.autograd.grad(part_loss / examples, parameters)
            torch._foreach_add_(total, gradients)
            loss += part_loss.detach()
            correct += (scores.detach().argmax(1) == targets).sum()
    norm = torch.stack([g.double().square().sum() for g in total]).sum().sqrt()
    return FullGradient(float(norm), float(loss) / examples, int(correct) / examples)


@contextmanager
def untouched(model: nn.Module, batch_norm: str) -> Iterator[Callable[[Tensor], Tensor]]:
    """A forward pass of ``model`` that leaves the model and all random states as they were.

    BatchNorm in training mode moves its running statistics: the pass moves copies of them.
    """
    modes = [(module, module.training) for module in model.modules()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)), torch.enable_grad():
        torch.manual_seed(0)
        for module, _ in modes:
            module.training = isinstance(module, _BatchNorm) and batch_norm == "batch"
        if any(module.training for module, _ in modes):
            buffers: dict[str, Any] = {name: b.clone() for name, b in model.named_buffers()}

            def forward(inputs: Tensor) -> Tensor:
                return functional_call(model, buffers, (inputs,))  # type: ignore[no-any-return]
        else:
            forward = model
        try:
            yield forward
        finally:
            for module, training in modes:
                module.training = training
