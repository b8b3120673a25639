"""Run a model for a measurement without changing its state."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from accelerando.torch_adapter import (
    BatchNorm,
    has_forward_hooks,
    is_single_value_error,
    replaced_buffers,
)

Forward = Callable[[Tensor], Tensor]


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether the model has a BatchNorm layer."""
    return any(isinstance(module, BatchNorm) for module in model.modules())


def couples_examples(model: nn.Module, batch_norm: str) -> bool:
    """Return whether an example's output depends on the other examples of its chunk."""
    return any(
        isinstance(module, BatchNorm) and (batch_norm == "batch" or module.running_mean is None)
        for module in model.modules()
    )


def rejects_single_example(model: nn.Module, shape: Sequence[int]) -> bool:
    """Return whether BatchNorm fails on one example of ``shape``: a single value has no variance.

    The model may be on any device, including meta.
    """
    if not has_batch_norm(model):
        return False
    example = torch.zeros(1, *shape, device=next(model.parameters()).device)
    try:
        with preserve_state(model, batch_norm="batch") as (forward, _), torch.no_grad():
            forward(example)
    except ValueError as error:
        if not is_single_value_error(error):
            raise
        return True
    return False


@contextmanager
def preserve_state(
    model: nn.Module, *, batch_norm: str = "running", dtype: torch.dtype | None = None
) -> Iterator[tuple[Forward, list[Tensor]]]:
    """Provide a forward pass in evaluation mode that leaves the model's state unchanged.

    Buffers, training mode and random states are bitwise the same afterwards, even if the body
    raises: a pass that updates buffers, as BatchNorm does in training mode, updates copies. The
    caller's autocast and TF32 are disabled in the body, so that precision depends on ``dtype``
    alone.

    Args:
        model: the model.
        batch_norm: "running" normalises with the stored statistics, "batch" with those of the
            examples that are passed.
        dtype: the precision to compute in; None for that of the parameters. float32 and float64
            convert copies of the parameters; float16 and bfloat16 apply to matrix products only,
            while sums and gradients keep the precision of the parameters.

    Yields:
        The forward pass, and the tensors to differentiate with respect to, in the order of
        ``model.parameters()``.

    Raises:
        ValueError: ``batch_norm`` or ``dtype`` is invalid, or no parameter requires a gradient.
    """
    if batch_norm not in ("batch", "running"):
        hint = ": see published_gradient_norm" if batch_norm == "published" else ""
        raise ValueError(f"batch_norm must be batch or running, got {batch_norm!r}{hint}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype must be a floating-point type like torch.float64, got {dtype!r}")
    modules, parameters = list(model.modules()), list(model.parameters())
    if not any(p.requires_grad for p in parameters):
        raise ValueError("no parameter of the model requires a gradient")
    training_modes = [module.training for module in modules]
    autocast_dtype = dtype if dtype in (torch.bfloat16, torch.float16) else None
    copy_dtype = None if autocast_dtype is not None else dtype
    with _fixed_random_states(modules, parameters), _full_precision(), torch.enable_grad():
        try:
            for module in modules:
                module.training = isinstance(module, BatchNorm) and batch_norm == "batch"
            # copied once for all chunks: functional_call would do it for each, which takes a few
            # per cent of a small model's pass
            with replaced_buffers(modules, {id(b): _copy(b, copy_dtype) for b in model.buffers()}):
                forward, differentiable = _forward(model, parameters, copy_dtype)
                if autocast_dtype is not None:
                    forward = _with_autocast(forward, autocast_dtype)
                yield forward, differentiable
        finally:
            for module, training in zip(modules, training_modes, strict=True):
                module.training = training


def chunk_gradient(
    forward: Forward, parameters: list[Tensor], images: Tensor, labels: Tensor
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Return the gradient of the chunk's mean loss, that loss, and the scores."""
    scores = forward(images)
    loss = cross_entropy(scores, labels)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return gradients, loss.detach(), scores.detach()


@contextmanager
def _full_precision() -> Iterator[None]:
    """Disable autocast and TF32, which torch by default allows in convolutions on GPUs."""
    autocast_devices = [name for name in ("cpu", "cuda") if torch.is_autocast_enabled(name)]
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    allowed = [backend.allow_tf32 for backend in backends]
    try:
        for name in autocast_devices:
            torch.set_autocast_enabled(name, False)
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for name in autocast_devices:
            torch.set_autocast_enabled(name, True)
        for backend, value in zip(backends, allowed, strict=True):
            backend.allow_tf32 = value


@contextmanager
def _fixed_random_states(modules: list[nn.Module], tensors: Iterable[Tensor]) -> Iterator[None]:
    """Seed the random generators that the model may use; restore their states on exit."""
    devices = {t.device for t in tensors if t.device.type == "cuda"}
    # not torch.manual_seed: it seeds every GPU, including those whose states are not saved here
    generators = [torch.default_generator]
    generators += [torch.cuda.default_generators[device.index] for device in devices]
    torch_states = [generator.get_state() for generator in generators]
    # copying the long states of NumPy and random takes as long as a chunk of a small model
    uses_host = any(map(_may_use_host_randomness, modules))
    host_states = (np.random.get_state(), random.getstate()) if uses_host else None
    try:
        for generator in generators:
            generator.manual_seed(0)
        if host_states is not None:
            np.random.seed(0)
            random.seed(0)
        yield
    finally:
        for generator, state in zip(generators, torch_states, strict=True):
            generator.set_state(state)
        if host_states is not None:
            np.random.set_state(host_states[0])
            random.setstate(host_states[1])


TORCH_RANDOMNESS_ONLY = ("torch.nn.modules.", "accelerando.models.")
"""Packages whose modules draw random numbers from torch alone."""


def _may_use_host_randomness(module: nn.Module) -> bool:
    """Return whether the module may draw from NumPy or ``random``, as unknown code may."""
    return (
        not type(module).__module__.startswith(TORCH_RANDOMNESS_ONLY)
        or "forward" in vars(module)
        or has_forward_hooks(module)
    )


def _forward(
    model: nn.Module, parameters: list[nn.Parameter], dtype: torch.dtype | None
) -> tuple[Forward, list[Tensor]]:
    """Return a forward pass in ``dtype``, and the parameters or copies that it uses."""
    if dtype is None:
        return model, [p for p in parameters if p.requires_grad]
    copies = {id(p): _copy(p, dtype).requires_grad_(p.requires_grad) for p in parameters}
    # each module once, even if the model uses it under two names: given both names,
    # functional_call would leave a copy in the model
    named_copies = {
        f"{prefix}.{name}" if prefix else name: copies[id(p)]
        for prefix, module in model.named_modules()
        for name, p in module.named_parameters(recurse=False, remove_duplicate=False)
    }

    def forward(inputs: Tensor) -> Tensor:
        arguments = (inputs.to(dtype),)
        result: Tensor = functional_call(model, named_copies, arguments, tie_weights=False)
        return result

    return forward, [p for p in copies.values() if p.requires_grad]


def _with_autocast(forward: Forward, dtype: torch.dtype) -> Forward:
    def autocast_forward(inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, dtype):
            return forward(inputs).float()

    return autocast_forward


def _copy(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    new_dtype = dtype if tensor.is_floating_point() and dtype is not None else tensor.dtype
    return tensor.detach().to(new_dtype, copy=True)
