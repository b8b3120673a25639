"""The error raised when a device runs out of memory, and the advice that goes with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from accelerando.distributed import Team
from accelerando.measure.preserve_state import has_batch_norm
from accelerando.torch_adapter import is_out_of_memory


class OutOfMemory(Exception):
    """The device ran out of memory, in a measurement (``measuring``) or in a training step."""

    def __init__(self, reason: str, *, measuring: bool) -> None:
        super().__init__(reason)
        self.measuring = measuring


@contextmanager
def raise_together(team: Team) -> Iterator[None]:
    """Raise an out-of-memory error in all processes of ``team`` if any of them runs out.

    Otherwise the remaining processes would wait forever in the next collective operation.

    Raises:
        RuntimeError: this process ran out of memory; torch's own error.
        MemoryError: another process of the team ran out of memory.
    """
    local_error = None
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        local_error = error
    if team.any(local_error is not None):
        raise local_error or MemoryError("in another process of the run")


def batch_remedy(model: nn.Module, examples: int) -> str:
    """Return advice for a training step in which ``examples`` examples did not fit."""
    setting = f"hardware.micro_batch={max(1, examples // 2)}"
    if has_batch_norm(model):
        return (
            f"resume on a device with more memory, or start a new run with {setting} or less "
            "(BatchNorm then uses the statistics of each micro-batch) or with a smaller largest "
            "batch"
        )
    return f"set {setting} or less; splitting batches changes results only by rounding"


def measurement_remedy(chunk: int, published: int = 0) -> str:
    """Return advice for a measurement that did not fit.

    ``published`` is the size of the largest batch that measure.published passes through the model,
    0 if it is off.
    """
    if published > chunk:
        return (
            f"measure.published uses complete batches of up to {published} examples: use a device "
            "with more memory, or start a new run without it or with a smaller largest batch"
        )
    return (
        f"measurements use chunks of {chunk} examples: use a device with more memory, or start a "
        f"new run with measure.chunk={max(1, chunk // 2)} or less"
    )
