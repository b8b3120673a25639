"""The checkpoint: all that a run needs to go on exactly where it was."""

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
    """State between two steps.

    Args:
        position: where the run stands.
        measured: step of the last measurement, -1 before the first.
        lowest: minimum full gradient norm so far.
        seconds: time spent so far.
        lengths: bytes of the record's two files.
        window: sum of losses and number of examples since the last training row.
        model: the model's state.
        velocity: the momentum buffers, none without momentum.
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
        """Its content, in torch's format, of which every part has a checksum."""
        content = io.BytesIO()  # torch hides a full disk behind errors of its own
        torch.save(vars(self) | {"position": tuple(self.position)}, content)
        file.write(content.getbuffer())

    @classmethod
    def load(
        cls, folder: RunFolder, device: torch.device, notify: Callable[[str], None]
    ) -> Checkpoint | None:
        """The last checkpoint that is whole, or None where there is none. It executes no code.

        A damaged one is set aside under another name.

        Args:
            folder: the run's.
            device: where its tensors go.
            notify: told of damage.

        Raises:
            UsageError: there is none but damaged ones.
        """
        damaged = []
        for path in (folder.checkpoint, folder.previous_checkpoint):
            if not path.exists():
                continue
            try:
                found = cls.read(path, device)
            except Exception as error:  # torch and zipfile raise many kinds for damaged files
                damaged.append((path, str(error).splitlines()[0] if str(error) else repr(error)))
                continue
            for bad, reason in damaged:
                aside = bad.with_name(f"{bad.stem}.damaged.pt")
                bad.replace(aside)
                notify(f"{bad} is damaged ({reason}), now {aside.name}: the one before it is used")
            return found
        if not damaged:
            return None
        words = ", ".join(f"{path.name} ({reason})" for path, reason in damaged)
        raise UsageError(
            f"{folder.path} holds no checkpoint that is whole: {words} damaged; restore one, or "
            "remove the folder to start the run again"
        )

    @classmethod
    def read(cls, source: Path | BinaryIO, device: torch.device) -> Checkpoint:
        """The checkpoint in a file.

        Raises:
            Exception: of many kinds, where it is damaged.
        """
        with zipfile.ZipFile(source) as archive:
            if (part := archive.testzip()) is not None:
                raise ValueError(f"{part} does not have its checksum")
        if not isinstance(source, Path):
            source.seek(0)
        values = torch.load(source, map_location=device, weights_only=True)
        values["position"] = Progress(*values["position"])
        values["random"] = [state.cpu() for state in values["random"]]
        return cls(**values)


def random_states(device: torch.device) -> list[Tensor]:
    """States of torch's generators, for models that draw random numbers."""
    on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_gpu]


def set_random_states(states: list[Tensor], device: torch.device) -> None:
    """Set torch's generators, as far as there are states for them."""
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
