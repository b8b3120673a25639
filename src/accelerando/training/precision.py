"""The floating-point precision of a training step, and its compilation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from accelerando.checks import UsageError
from accelerando.torch_adapter import mark_batch_dynamic

Forward = Callable[[Tensor], Tensor]


def check_precision(precision: str, device: torch.device) -> None:
    """Raise UsageError if the device does not support the precision."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(
            f"precision=tf32 needs an NVIDIA GPU, got device {device.type}: use precision=fp32 or "
            "precision=bf16"
        )


def check_compiler(device: torch.device) -> None:
    """Raise UsageError if torch.compile does not work here, by compiling an addition."""
    try:
        torch.compile(torch.add)(torch.ones(2, device=device), 1)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"hardware.compile=true cannot compile for {device.type} on this machine ({reason}): "
            "install a C++ compiler such as g++ (for a GPU, a C compiler and triton), or set "
            "hardware.compile=false"
        ) from error
    # otherwise the shapes seen here would influence how the model is compiled
    torch.compiler.reset()


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Allow TF32 if ``precision`` is "tf32"; afterwards, as in measurements, it is off again."""
    allow_tf32(precision == "tf32")
    try:
        yield
    finally:
        allow_tf32(False)


def allow_tf32(allow: bool) -> None:
    """Allow or forbid TF32 in matrix products and convolutions on a GPU."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow


def training_forward(model: nn.Module, precision: str, *, compiled: bool) -> Forward:
    """Return the forward pass of a training step.

    Args:
        model: its parameters, gradients and updates stay in float32.
        precision: bf16 computes matrix products in bfloat16, sums and losses in float32.
        compiled: use torch.compile, which then compiles once for all batch sizes above 1.
    """
    forward: Forward = torch.compile(model) if compiled else model

    def dynamic(images: Tensor) -> Tensor:
        # otherwise each new batch size triggers a recompilation, up to torch's limit
        mark_batch_dynamic(images)
        return forward(images)

    def autocast(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return (dynamic if compiled else forward)(images).float()

    if precision == "bf16":
        return autocast
    return dynamic if compiled else forward
