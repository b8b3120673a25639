"""Looking at a model without leaving a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

Forward = Callable[[Tensor], Tensor]


def has_batch_norm(model: nn.Module) -> bool:
    """Whether the examples of a batch see each other in training mode."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


@contextmanager
def untouched(
    model: nn.Module, *, batch_norm: str = "running", dtype: torch.dtype | None = None
) -> Iterator[tuple[Forward, list[Tensor]]]:
    """A forward pass of ``model`` in evaluation mode that leaves everything as it was.

    Buffers, training mode and random states are bitwise the same afterwards, whatever happens
    within: BatchNorm in training mode moves its running statistics, so the pass moves copies.

    Args:
        model: the model.
        batch_norm: "running": stored statistics; "batch": those of the examples that are passed.
        dtype: compute with copies of this precision; left out: with the parameters themselves.

    Yields:
        The forward pass, and the tensors to take gradients by, in the order of the parameters.
    """
    modes = [(module, module.training) for module in model.modules()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    with torch.random.fork_rng(devices=list(devices)), torch.enable_grad():
        torch.manual_seed(0)
        for module, _ in modes:
            module.training = isinstance(module, _BatchNorm) and batch_norm == "batch"
        try:
            if dtype is None and not any(module.training for module, _ in modes):
                yield model, [p for _, p in named]
            else:
                tensors = {name: _copy(b, dtype) for name, b in model.named_buffers()}
                leaves = [
                    p if dtype is None else _copy(p, dtype).requires_grad_() for _, p in named
                ]
                tensors |= dict(zip((name for name, _ in named), leaves, strict=True))

                def forward(inputs: Tensor) -> Tensor:
                    result: Tensor = functional_call(model, tensors, (inputs,))
                    return result

                yield forward, leaves
        finally:
            for module, training in modes:
                module.training = training


def _copy(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    kind = dtype if tensor.is_floating_point() and dtype is not None else tensor.dtype
    return tensor.detach().to(kind, copy=True)
