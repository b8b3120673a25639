"""Whether the largest scheduled batch fits, before a long run finds out in its last stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from accelerando.checks import UsageError
from accelerando.distributed import Team
from accelerando.measure.preserve_state import has_batch_norm

if TYPE_CHECKING:
    from accelerando.training.step import SgdStep

MARGIN = 1.25
"""What a pass needs beyond the tensors it keeps for its backward, as a factor: measured, rounded up
(ResNet-18 at batch 64: 1.2)."""


class OutOfMemory(Exception):
    """The device has no memory for a step, or for a measurement."""

    def __init__(self, reason: str, *, measuring: bool) -> None:
        super().__init__(reason)
        self.measuring = measuring


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, or Python, ran out of memory."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


@contextmanager
def raise_together(team: Team) -> Iterator[None]:
    """Where memory runs out within it in one process of a team, every process raises that.

    Else the others would wait for the sums that this one is no longer part of.
    """
    mine = None
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        mine = error
    if team.any(mine is not None):
        raise mine or MemoryError("in another process of the run")


def check_memory(
    model: nn.Module,
    step: SgdStep,
    example: tuple[Tensor, Tensor],
    size: int,
    unit: int | None,
    chunk: int,
    published: int = 0,
    beside: int = 1,
) -> None:
    """Try the largest batch, and chunk, that this process will meet; nothing of the run is changed.

    A GPU computes it. On a CPU, where that may take minutes and no error comes in time, what two
    small batches keep for their backward passes tells what a large one needs.

    Args:
        model: as it will be trained.
        step: what will train it, but whole batches.
        example: one image, shape (1, ...), and its label, shape (1,).
        size: examples in this process's share of the largest batch.
        unit: of them, at most so many at a time; None: all.
        chunk: examples at a time in a measurement, which goes forward and backward as a step does.
        published: examples in the largest batch where those are measured, whole; 0: they are not.
        beside: processes that share this memory.

    Raises:
        UsageError: it does not fit; the sentence says what to set.
    """
    at_once, device = min(size, unit or size), example[1].device

    def fits(count: int) -> bool:
        if device.type == "cpu":
            return _fits_main_memory(model, step, example, count, beside)
        return _can_be_computed(model, step, example, count)

    if not fits(at_once):
        raise UsageError(
            f"a batch of {size} examples, the schedule's largest, does not fit into the memory of "
            f"{device} at {at_once} examples at a time: {remedy(model, at_once)}"
        )
    measured = max(chunk, published)
    if measured > at_once and not fits(measured):
        words = measurement_remedy(chunk, published)
        raise UsageError(f"the memory of {device} is too small: {words}")


def remedy(model: nn.Module, at_once: int) -> str:
    """What to set where ``at_once`` examples were too many."""
    half = f"hardware.micro_batch={max(1, at_once // 2)}"
    if has_batch_norm(model):
        return (
            f"go on with it on a device with more memory; or begin another run with {half}, or "
            "less, in which BatchNorm sees parts of a batch, or with a smaller largest batch"
        )
    return f"set {half}, or less, which splits batches and changes no result but by rounding"


def measurement_remedy(chunk: int, published: int = 0) -> str:
    """What to set where chunks, or the whole batches of measure.published, were too large."""
    if published > chunk:
        return (
            f"measure.published goes through whole batches of up to {published} examples: take a "
            "device with more memory, or another run without it, or with a smaller largest batch"
        )
    return (
        f"a measurement goes through {chunk} examples at a time: take a device with more memory, "
        f"or another run with measure.chunk={max(1, chunk // 2)}, or less"
    )


def _can_be_computed(
    model: nn.Module, step: SgdStep, example: tuple[Tensor, Tensor], count: int
) -> bool:
    try:
        trial(model, step, example, count)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        torch.cuda.empty_cache()
    return True


def _fits_main_memory(
    model: nn.Module, step: SgdStep, example: tuple[Tensor, Tensor], count: int, beside: int
) -> bool:
    available = available_memory()
    if available is None or count < 8:
        return True
    kept = []
    for small in (2, 4):
        storages: dict[int, int] = {}

        def keep(tensor: Tensor, storages: dict[int, int] = storages) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            trial(model, step, example, small)
        kept.append(sum(storages.values()))
    return (kept[1] - kept[0]) / 2 * count * MARGIN * beside < available


def trial(model: nn.Module, step: SgdStep, example: tuple[Tensor, Tensor], count: int) -> None:
    """Forward and backward of ``count`` examples; running statistics and random state come back."""
    images, labels = (t.expand(count, *t.shape[1:]).clone() for t in example)
    buffers = [(b, b.clone()) for b in model.buffers()]
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        try:
            step.gradients(images, labels, count)
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def available_memory() -> int | None:
    """Bytes this process may still take: of the machine, and of its cgroup; None if not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        values = dict(line.split(":") for line in lines)
        available = int(values["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    return min([available, *_cgroup_rooms()])


def _cgroup_rooms(
    mine: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """What each cgroup (version 2) around this process leaves: SLURM and containers limit so."""
    rooms = []
    try:
        inner = mine.read_text().strip().rpartition("::")[2].lstrip("/")
        for folder in (root / inner, *(root / inner).parents):
            if not folder.is_relative_to(root) or not (folder / "memory.max").is_file():
                continue
            limit = (folder / "memory.max").read_text().strip()
            if limit != "max":
                lines = (folder / "memory.stat").read_text().splitlines()
                stat = dict(line.split() for line in lines)
                used = int((folder / "memory.current").read_text()) - int(stat["inactive_file"])
                rooms.append(int(limit) - used)
    except (OSError, ValueError, KeyError):
        return rooms  # no cgroup of this kind: the machine's memory is the limit
    return rooms
