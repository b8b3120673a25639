"""The private parts of PyTorch that Accelerando relies on, gathered in one place.

tests/test_torch_adapter.py fails if a release of PyTorch moves or changes one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

foreach_add_, foreach_copy_ = torch._foreach_add_, torch._foreach_copy_
foreach_mul_, foreach_lerp_ = torch._foreach_mul_, torch._foreach_lerp_
foreach_norm = torch._foreach_norm
"""Operations on lists of tensors in a few kernels, as in torch.optim."""
BatchNorm = _BatchNorm
"""The base class of all BatchNorm layers."""


def has_forward_hooks(module: nn.Module) -> bool:
    """Return whether calling ``module`` also runs hooks registered on it."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


@contextmanager
def replaced_buffers(modules: Sequence[nn.Module], copies: dict[int, Tensor]) -> Iterator[None]:
    """Let ``modules`` use copies of their buffers; on exit they get the originals back.

    ``copies`` holds them by the ``id`` of the buffer, so that modules still share a buffer.
    """
    originals = [(module, module._buffers) for module in modules if module._buffers]
    try:
        for module, buffers in originals:
            module._buffers = {name: copies.get(id(b)) for name, b in buffers.items()}
        yield
    finally:
        for module, buffers in originals:
            module._buffers = buffers


def mark_batch_dynamic(images: Tensor) -> None:
    """Tell torch.compile that the first dimension of ``images`` varies between calls."""
    torch._dynamo.maybe_mark_dynamic(images, 0)


def default_store() -> Any:
    """Return the key-value store (torch.distributed.Store) of the default process group."""
    from torch.distributed.distributed_c10d import _get_default_store

    return _get_default_store()


def is_single_value_error(error: ValueError) -> bool:
    """Return whether BatchNorm raised ``error`` because a channel had a single value."""
    return "more than 1 value per channel" in str(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether torch, or Python itself, ran out of memory."""
    types = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, types) or "can't allocate memory" in str(error)
