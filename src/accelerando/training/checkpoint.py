"""The checkpoint: all that a run needs to go on exactly where it was."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accelerando.checks import UsageError
from accelerando.schedule import Progress
from accelerando.tracking.folder import write_whole


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
        random: state of torch's generator, for models that draw random numbers.
    """

    position: Progress
    measured: int
    lowest: float | None
    seconds: float
    lengths: tuple[int, int]
    window: tuple[Tensor, int]
    model: dict[str, Any]
    velocity: list[Tensor]
    random: Tensor

    def save(self, path: Path) -> None:
        """Write the file whole: a crash leaves the earlier checkpoint or this one."""
        content = io.BytesIO()
        torch.save(vars(self) | {"position": tuple(self.position)}, content)
        write_whole(path, content.getvalue(), sync=True)

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Checkpoint | None:
        """The checkpoint at ``path``, or None where there is none. It executes no code.

        Raises:
            UsageError: the file is damaged.
        """
        if not path.exists():
            return None
        try:
            return cls.read(path.read_bytes(), device)
        except Exception as error:  # torch raises many kinds for damaged files
            raise UsageError(
                f"{path} is damaged ({error}): remove it to start the run again"
            ) from error

    @classmethod
    def read(cls, content: bytes, device: torch.device) -> Checkpoint | None:
        """The checkpoint in a file's content, or None where that is empty."""
        if not content:
            return None
        values = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        values["position"] = Progress(*values["position"])
        values["random"] = values["random"].cpu()
        return cls(**values)
