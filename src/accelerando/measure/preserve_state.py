"""Looking at a model without leaving a trace."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

Forward = Callable[[Tensor], Tensor]


def has_batch_norm(model: nn.Module) -> bool:
    """Whether the examples of a batch see each other in training mode."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def couples_examples(model: nn.Module, batch_norm: str) -> bool:
    """Whether the examples of a chunk see each other where the model is measured so."""
    return any(
        isinstance(module, _BatchNorm) and (batch_norm == "batch" or module.running_mean is None)
        for module in model.modules()
    )


def rejects_single_example(model: nn.Module, shape: Sequence[int]) -> bool:
    """Whether BatchNorm meets one value alone in a single example of ``shape``: it has no variance.

    The model's tensors need hold nothing: it may be on the meta device.
    """
    if not has_batch_norm(model):
        return False
    example = torch.zeros(1, *shape, device=next(model.parameters()).device)
    try:
        with preserve_state(model, batch_norm="batch") as (forward, _), torch.no_grad():
            forward(example)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        return True
    return False


@contextmanager
def preserve_state(
    model: nn.Module, *, batch_norm: str = "running", dtype: torch.dtype | None = None
) -> Iterator[tuple[Forward, list[Tensor]]]:
    """A forward pass of ``model`` in evaluation mode that leaves everything as it was.

    Buffers, training mode and random states are bitwise the same afterwards, whatever happens
    within: a pass may move buffers, as BatchNorm in training mode does, so it moves copies. The
    caller's autocast and TF32 are off within, so that nothing is rougher than ``dtype`` says.

    Args:
        model: the model.
        batch_norm: "running": stored statistics; "batch": those of the examples that are passed.
        dtype: precision to compute in; left out: that of the parameters. float32 and float64 are
            that of copies of the parameters; bfloat16 is that of the products alone, and sums and
            gradients keep the precision of the parameters.

    Yields:
        The forward pass, and the tensors to take gradients by, in the order of the parameters.

    Raises:
        ValueError: ``batch_norm`` is neither, ``dtype`` no precision, or nothing to take gradients
            by.
    """
    if batch_norm not in ("batch", "running"):
        hint = ": see published_gradient_norm" if batch_norm == "published" else ""
        raise ValueError(f"batch_norm must be batch or running, got {batch_norm!r}{hint}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype must be a precision such as torch.float64, got {dtype!r}")
    modules, named = list(model.modules()), dict(model.named_parameters())
    if not any(p.requires_grad for p in named.values()):
        raise ValueError("no parameter of the model requires a gradient")
    modes = [module.training for module in modules]
    rough = dtype if dtype in (torch.bfloat16, torch.float16) else None
    copied = None if rough is not None else dtype
    with _fixed_random_states(modules, named.values()), _full_precision(), torch.enable_grad():
        try:
            for module in modules:
                module.training = isinstance(module, _BatchNorm) and batch_norm == "batch"
            with _copied_buffers(modules, copied):
                forward, parameters = _forward(model, named, copied)
                yield forward if rough is None else _in_autocast(forward, rough), parameters
        finally:
            for module, training in zip(modules, modes, strict=True):
                module.training = training


@contextmanager
def _full_precision() -> Iterator[None]:
    """Within it products are as exact as their factors; torch's own default is not, on GPUs."""
    rough = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    allowed = [place.allow_tf32 for place in places]
    try:
        for kind in rough:
            torch.set_autocast_enabled(kind, False)
        for place in places:
            place.allow_tf32 = False
        yield
    finally:
        for kind in rough:
            torch.set_autocast_enabled(kind, True)
        for place, value in zip(places, allowed, strict=True):
            place.allow_tf32 = value


@contextmanager
def _fixed_random_states(modules: list[nn.Module], tensors: Iterable[Tensor]) -> Iterator[None]:
    """Within it what modules draw is the same at every call; afterwards nothing was drawn."""
    devices = {t.device for t in tensors if t.device.type == "cuda"}
    # not torch.manual_seed: it seeds every GPU, also those whose states are not kept here
    generators = [torch.default_generator]
    generators += [torch.cuda.default_generators[device.index] for device in devices]
    states = [generator.get_state() for generator in generators]
    hosts = (
        (np.random.get_state(), random.getstate())
        if any(map(_may_draw_elsewhere, modules))
        else None
    )
    try:
        for generator in generators:
            generator.manual_seed(0)
        if hosts is not None:
            np.random.seed(0)
            random.seed(0)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        if hosts is not None:
            np.random.set_state(hosts[0])
            random.setstate(hosts[1])


KNOWN = ("torch.nn.modules.", "accelerando.models.")
"""Modules from there draw from torch alone."""


def _may_draw_elsewhere(module: nn.Module) -> bool:
    """Whether it may draw from NumPy or random, as code that is not known may.

    Their states are long: to copy them back and forth takes as long as a chunk of a small model.
    """
    return bool(
        not type(module).__module__.startswith(KNOWN)
        or "forward" in vars(module)
        or module._forward_hooks
        or module._forward_pre_hooks
    )


@contextmanager
def _copied_buffers(modules: list[nn.Module], dtype: torch.dtype | None) -> Iterator[None]:
    """Within it modules have copies of their buffers, for a pass to move.

    Once for all chunks: ``functional_call`` would do it at each, which is a few per cent of a small
    model's pass.
    """
    copies: dict[int, Tensor] = {}
    lent = [(module, module._buffers) for module in modules if module._buffers]
    for _, buffers in lent:
        copies |= {id(b): _copy(b, dtype) for b in buffers.values() if b is not None}
    try:
        for module, buffers in lent:  # those that share a buffer share its copy
            module._buffers = {name: copies.get(id(b)) for name, b in buffers.items()}
        yield
    finally:
        for module, buffers in lent:
            module._buffers = buffers


def _forward(
    model: nn.Module, named: dict[str, nn.Parameter], dtype: torch.dtype | None
) -> tuple[Forward, list[Tensor]]:
    """The model itself, or a pass through copies of its parameters in another precision."""
    if dtype is None:
        return model, [p for p in named.values() if p.requires_grad]
    copies = {id(p): _copy(p, dtype).requires_grad_(p.requires_grad) for p in named.values()}
    # each place once: told of one under two names, as where a module is used twice, functional_call
    # would put its copy back for good
    places = {
        f"{at}.{name}" if at else name: copies[id(p)]
        for at, module in model.named_modules()
        for name, p in module._parameters.items()
        if p is not None
    }

    def forward(inputs: Tensor) -> Tensor:
        given = (inputs.to(dtype),)
        result: Tensor = functional_call(model, places, given, tie_weights=False)
        return result

    return forward, [p for p in copies.values() if p.requires_grad]


def _in_autocast(forward: Forward, dtype: torch.dtype) -> Forward:
    def rough(inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, dtype):
            return forward(inputs).float()

    return rough


def _copy(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    kind = dtype if tensor.is_floating_point() and dtype is not None else tensor.dtype
    return tensor.detach().to(kind, copy=True)
