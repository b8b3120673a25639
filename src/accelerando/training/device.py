"""The device a run computes on, and what is recorded of it."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from typing import Any

import torch

from accelerando import __version__
from accelerando.checks import UsageError
from accelerando.config import HardwareSettings
from accelerando.provenance import git_commit

ROUNDING = ("processes", "micro_batch", "channels_last", "compile")
"""Settings of the hardware that change results by rounding."""


def prepare_device(name: str, threads: int, local_rank: int = 0) -> torch.device:
    """Set the number of CPU threads and return the device.

    Args:
        name: as torch names it; "cuda" is this process's GPU.
        threads: of the CPU.
        local_rank: which of this machine's processes of the run this is.

    Raises:
        UsageError: there is no such device here.
    """
    torch.set_num_threads(threads)
    _keep_freed_memory()
    # precision is a setting of the run, not of the hardware
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        # torch.cuda.set_device wants to be told which; SLURM may show each task its own GPU alone
        mine = f"cuda:{local_rank % max(1, torch.cuda.device_count())}"
        device = torch.device(mine if name == "cuda" else name)
        torch.empty(0, device=device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"hardware.device={name} cannot be used on this machine ({reason}): "
            "use hardware=cpu, or a device that torch finds here"
        ) from error
    return device


def _keep_freed_memory() -> None:
    """Let glibc use freed memory again, rather than give it back and fetch it anew every step.

    Large activations are otherwise mapped, zeroed and unmapped by the kernel each time: ResNet-18
    on one core takes 72 ms an example at batch 128, and 58 ms with this.
    """
    with suppress(OSError, AttributeError):  # another C library than glibc
        libc = ctypes.CDLL("libc.so.6")
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            libc.mallopt(option, 2**31 - 1)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's malloc.h."""


def environment(device: torch.device, hardware: HardwareSettings) -> dict[str, Any]:
    """What bitwise claims depend on: they hold for the same values of these."""
    names = {"cuda": lambda: torch.cuda.get_device_name(device)}
    return {
        "accelerando": __version__,
        "commit": git_commit(),
        "torch": torch.__version__,
        "device": names.get(device.type, lambda: device.type)(),
        "threads": torch.get_num_threads(),
        **{name: getattr(hardware, name) for name in ROUNDING},
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "host": platform.node(),
        "pid": os.getpid(),
    }
