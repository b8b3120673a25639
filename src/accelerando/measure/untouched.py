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
        dtype: precision to compute in; left out: that of the parameters. float32 and float64 are
            that of copies of the parameters; bfloat16 is that of the products alone, and sums and
            gradients keep the precision of the parameters.

    Yields:
        The forward pass, and the tensors to take gradients by, in the order of the parameters.

    Raises:
        ValueError: ``batch_norm`` is neither.
    """
    if batch_norm not in ("batch", "running"):
        raise ValueError(f"batch_norm must be batch or running, got {batch_norm!r}")
    modes = [(module, module.training) for module in model.modules()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    rough = dtype if dtype in (torch.bfloat16, torch.float16) else None
    copied = None if rough is not None else dtype
    with torch.random.fork_rng(devices=list(devices)), torch.enable_grad():
        torch.manual_seed(0)
        for module, _ in modes:
            module.training = isinstance(module, _BatchNorm) and batch_norm == "batch"
        try:
            forward, parameters = _forward(model, copied)
            yield forward if rough is None else _in_autocast(forward, rough), parameters
        finally:
            for module, training in modes:
                module.training = training


def _forward(model: nn.Module, dtype: torch.dtype | None) -> tuple[Forward, list[Tensor]]:
    """The model itself where its pass moves nothing, else a pass through copies."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if dtype is None and not any(module.training for module in model.modules()):
        return model, [p for _, p in named]
    tensors = {name: _copy(b, dtype) for name, b in model.named_buffers()}
    leaves = [p if dtype is None else _copy(p, dtype).requires_grad_() for _, p in named]
    tensors |= dict(zip((name for name, _ in named), leaves, strict=True))

    def forward(inputs: Tensor) -> Tensor:
        inputs = inputs if dtype is None else inputs.to(dtype)
        result: Tensor = functional_call(model, tensors, (inputs,))
        return result

    return forward, leaves


def _in_autocast(forward: Forward, dtype: torch.dtype) -> Forward:
    def rough(inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, dtype):
            return forward(inputs).float()

    return rough


def _copy(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    kind = dtype if tensor.is_floating_point() and dtype is not None else tensor.dtype
    return tensor.detach().to(kind, copy=True)
