"""The floating point that a step computes in: a setting of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from accelerando.checks import UsageError

Forward = Callable[[Tensor], Tensor]


def check_precision(precision: str, device: torch.device) -> None:
    """Raise UsageError where the device has no such arithmetic."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(
            "precision=tf32 is arithmetic of NVIDIA GPUs, the run is on "
            f"{device.type}: use precision=fp32 or bf16"
        )


def check_compiler(device: torch.device) -> None:
    """Raise UsageError where torch.compile has not what it needs, by compiling a sum."""
    try:
        torch.compile(torch.add)(torch.ones(2, device=device), 1)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"hardware.compile=true cannot compile for {device.type} here ({reason}): install a "
            "C++ compiler such as g++ (for a GPU a C compiler, and triton), or leave it out"
        ) from error
    # what it learned of the sum's shapes it would take to hold for the model's images
    torch._dynamo.reset()


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Within it tf32 multiplies in that format; outside of it, and so in measurements, nothing."""
    if precision != "tf32":
        yield
        return
    _allow_tf32(True)
    try:
        yield
    finally:
        _allow_tf32(False)


def _allow_tf32(allow: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow


def training_forward(model: nn.Module, precision: str, *, compiled: bool) -> Forward:
    """The forward pass of a step.

    Args:
        model: its parameters stay in float32, and so do gradients and updates.
        precision: bf16 makes products in bfloat16, sums and losses in float32.
        compiled: by torch.compile, once for all batch sizes above one.
    """
    forward: Forward = torch.compile(model) if compiled else model

    def dynamic(images: Tensor) -> Tensor:
        # the batch grows: else every size would be compiled anew, until torch gives up
        torch._dynamo.maybe_mark_dynamic(images, 0)
        return forward(images)

    def rough(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return (dynamic if compiled else forward)(images).float()

    if precision == "bf16":
        return rough
    return dynamic if compiled else forward
