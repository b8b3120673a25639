"""The checkpoint: everything that a run needs to resume exactly where it stopped."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from accelerando.atomic_write import open_atomic
from accelerando.checks import UsageError
from accelerando.runs.folder import RunFolder
from accelerando.runs.run_lock import RunLock
from accelerando.schedule import Progress


@dataclass
class Checkpoint:
    """State of a run between two steps.

    The names of the attributes are those in the file.

    Args:
        position: position in the plan.
        measured: step of the last measurement, -1 before the first.
        lowest: minimum full gradient norm so far; None before the first measurement.
        seconds: training time so far.
        lengths: bytes of ``record.jsonl`` and ``steps.jsonl``.
        window: sum of losses and number of examples since the last training row.
        model: state dict of the model.
        velocity: momentum buffers; empty without momentum.
        random: see ``random_states``.
    """

    position: Progress
    measured: int
    lowest: float | None
    seconds: float
    lengths: tuple[int, int]
    window: tuple[Tensor, int]
    model: dict[str, Any]
    velocity: list[Tensor]
    random: list[Tensor]

    def save(self, folder: RunFolder, lock: RunLock) -> None:
        """Write the checkpoint atomically and keep the previous one."""
        lock.check()
        # and again before it is renamed: the disk may stall until others presume this process dead
        with open_atomic(
            folder.checkpoint, keep=folder.previous_checkpoint, sync=True, check=lock.check
        ) as file:
            self.write(file)

    def write(self, file: BinaryIO) -> None:
        """Write to a file in torch's format, in which every part has a checksum."""
        content = io.BytesIO()  # torch would report a full disk as some RuntimeError
        torch.save(vars(self) | {"position": tuple(self.position)}, content)
        file.write(content.getbuffer())

    @classmethod
    def load(
        cls, folder: RunFolder, device: torch.device, notify: Callable[[str], None]
    ) -> Checkpoint | None:
        """Load the latest intact checkpoint, or return None if there is none.

        No code in it is executed. Corrupt checkpoints are reported and renamed to ``*.damaged.pt``.

        Raises:
            UsageError: all checkpoints are corrupt.
        """
        corrupt: list[tuple[Path, str]] = []
        for path in (folder.checkpoint, folder.previous_checkpoint):
            if not path.exists():
                continue
            try:
                checkpoint = cls.read(path, device)
            except Exception as error:
                corrupt.append((path, str(error).splitlines()[0] if str(error) else repr(error)))
                continue
            for bad, reason in corrupt:
                quarantine = bad.with_name(f"{bad.stem}.damaged.pt")
                bad.replace(quarantine)
                notify(
                    f"{bad} is corrupt ({reason}); renamed it to {quarantine.name} and resuming "
                    "from the previous checkpoint"
                )
            return checkpoint
        if not corrupt:
            return None
        files = ", ".join(f"{path.name} ({reason})" for path, reason in corrupt)
        raise UsageError(
            f"all checkpoints in {folder.path} are corrupt: {files}; restore one, or remove the "
            "folder to start the run again"
        )

    @classmethod
    def read(cls, source: Path | BinaryIO, device: torch.device) -> Checkpoint:
        """Read the checkpoint in a file; torch and zipfile raise many types if it is corrupt."""
        with zipfile.ZipFile(source) as archive:
            if (part := archive.testzip()) is not None:
                raise ValueError(f"wrong checksum of {part}")
        if not isinstance(source, Path):
            source.seek(0)
        values = torch.load(source, map_location=device, weights_only=True)
        values["position"] = Progress(*values["position"])
        values["random"] = [state.cpu() for state in values["random"]]
        return cls(**values)


def random_states(device: torch.device) -> list[Tensor]:
    """Return the states of torch's generators, which dropout and similar layers draw from."""
    on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_gpu]


def set_random_states(states: list[Tensor], device: torch.device) -> None:
    """Restore torch's generators; that of a GPU only if the checkpoint was saved on one."""
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
