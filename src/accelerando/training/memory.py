"""Check before a run starts that its largest batch and its measurements fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from accelerando.checks import UsageError
from accelerando.torch_adapter import is_out_of_memory
from accelerando.training.out_of_memory import batch_remedy, measurement_remedy

TrialStep = Callable[[Tensor, Tensor], object]
"""Forward and backward pass for images and labels, without an update."""
Trial = Callable[[int], None]
"""A trial step for this many examples."""

OVERHEAD = 1.25
"""Peak memory of a pass relative to the tensors saved for its backward pass: measured (1.2 for
ResNet-18 at batch size 64), rounded up."""


def check_memory(
    model: nn.Module,
    trial_step: TrialStep,
    example: tuple[Tensor, Tensor],
    *,
    batch_size: int,
    micro_batch: int | None,
    chunk: int,
    published: int = 0,
    processes: int = 1,
) -> None:
    """Try the largest batch and the largest measurement that this process will compute.

    On a GPU both are computed. On a CPU that could take minutes, and running out of memory would
    kill the process instead of raising an error, so the memory is extrapolated from the tensors
    that two small batches save for their backward passes. Buffers and random states are restored.

    Args:
        model: in its training configuration.
        trial_step: computes a batch without splitting it into micro-batches.
        example: one image, shape (1, ...), and its label, shape (1,).
        batch_size: examples in this process's share of the largest batch.
        micro_batch: at most this many examples per pass; None for no limit.
        chunk: examples per measurement chunk, which runs forward and backward like a step.
        published: examples in the largest batch that measure.published uses; 0 if it is off.
        processes: processes of the run that share this memory.

    Raises:
        UsageError: something does not fit; the message says which setting to change.
    """
    examples, device = min(batch_size, micro_batch or batch_size), example[1].device
    trial = partial(_run_trial, model, trial_step, example)

    def fits(count: int) -> bool:
        if device.type == "cpu":
            return _fits_main_memory(trial, count, processes)
        return _fits_device(trial, count)

    if not fits(examples):
        raise UsageError(
            f"the schedule's largest batch of {batch_size} examples does not fit into the memory "
            f"of {device} at {examples} examples per pass: {batch_remedy(model, examples)}"
        )
    measured = max(chunk, published)
    if measured > examples and not fits(measured):
        remedy = measurement_remedy(chunk, published)
        raise UsageError(f"the memory of {device} is too small: {remedy}")


def _fits_device(trial: Trial, count: int) -> bool:
    try:
        trial(count)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        torch.cuda.empty_cache()
    return True


def _fits_main_memory(trial: Trial, count: int, processes: int) -> bool:
    available = available_memory()
    if available is None or count < 8:
        return True
    small, large = (_saved_bytes(trial, examples) for examples in (2, 4))
    return (large - small) / 2 * count * OVERHEAD * processes < available


def _saved_bytes(trial: Trial, count: int) -> int:
    """Return the bytes that a pass over ``count`` examples saves for its backward pass."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        trial(count)
    return sum(storages.values())


def _run_trial(
    model: nn.Module, trial_step: TrialStep, example: tuple[Tensor, Tensor], count: int
) -> None:
    """Run ``trial_step`` on ``count`` copies of ``example``; restore buffers and random states."""
    images, labels = (t.expand(count, *t.shape[1:]).clone() for t in example)
    buffers = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        try:
            trial_step(images, labels)
        finally:
            for buffer, original in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(original)


def available_memory() -> int | None:
    """Return the bytes this process can still allocate, or None if unknown.

    That is the available memory of the machine, or less where a cgroup sets a limit.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        values = dict(line.split(":") for line in lines)
        available = int(values["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    return min([available, *_cgroup_headroom()])


def _cgroup_headroom(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """Return the bytes left in each enclosing cgroup (version 2) that has a memory limit.

    SLURM and container runtimes limit the memory of their jobs this way.
    """
    headroom = []
    try:
        innermost = root / membership.read_text().strip().rpartition("::")[2].lstrip("/")
        for folder in (innermost, *innermost.parents):
            if not folder.is_relative_to(root) or not (folder / "memory.max").is_file():
                continue
            limit = (folder / "memory.max").read_text().strip()
            if limit != "max":
                lines = (folder / "memory.stat").read_text().splitlines()
                stat = dict(line.split() for line in lines)
                used = int((folder / "memory.current").read_text()) - int(stat["inactive_file"])
                headroom.append(int(limit) - used)
    except (OSError, ValueError, KeyError):
        return headroom  # no cgroup v2 here: the machine's memory is the only limit
    return headroom
