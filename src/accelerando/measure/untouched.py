"""Looking at a model without leaving a trace."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
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
    within: a pass may move buffers, as BatchNorm in training mode does, so it moves copies.

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
    rough = dtype if dtype in (torch.bfloat16, torch.float16) else None
    copied = None if rough is not None else dtype
    with _fixed_random_states(model), torch.enable_grad():
        try:
            for module, _ in modes:
                module.training = isinstance(module, _BatchNorm) and batch_norm == "batch"
            forward, parameters = _forward(model, copied)
            yield forward if rough is None else _in_autocast(forward, rough), parameters
        finally:
            for module, training in modes:
                module.training = training


@contextmanager
def _fixed_random_states(model: nn.Module) -> Iterator[None]:
    """Within it what a model draws is the same at every call; afterwards nothing was drawn."""
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    states = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=list(devices)):
        # not torch.manual_seed: it seeds every GPU, also those whose states are not kept here
        torch.default_generator.manual_seed(0)
        for device in devices:
            torch.cuda.default_generators[device.index].manual_seed(0)
        try:
            np.random.seed(0)
            random.seed(0)
            yield
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])


def _forward(model: nn.Module, dtype: torch.dtype | None) -> tuple[Forward, list[Tensor]]:
    """The model itself where its pass can move nothing, else a pass through copies."""
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    if dtype is not None:
        parameters = {
            name: _copy(p, dtype).requires_grad_(p.requires_grad) for name, p in parameters.items()
        }
    leaves = [p for p in parameters.values() if p.requires_grad]
    buffers = {name: _copy(b, dtype) for name, b in model.named_buffers()}
    if dtype is None and not buffers:
        return model, leaves
    tensors = parameters | buffers

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
