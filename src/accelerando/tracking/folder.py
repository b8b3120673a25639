"""A run's folder, and the file that says what became of the run."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from accelerando.checks import UsageError

RUNNING, INTERRUPTED, DIVERGED, FAILED, FINISHED = (
    "running",
    "interrupted",
    "diverged",
    "failed",
    "finished",
)
ENDED = (FINISHED, DIVERGED)
"""A run in one of these is not started again."""


@dataclass
class State:
    """What became of a run, and how far it got; ``state.json`` holds it."""

    status: str
    run: str
    dataset: str
    model: str
    scheduler: str
    seed: int
    epochs: int
    steps: int
    epoch: int = 0
    step: int = 0
    full_gradient_norm: float | None = None
    """Minimum so far."""
    seconds: float = 0.0
    """Time spent, over all starts."""
    message: str = ""
    traceback: str = ""
    overrides: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    wandb: dict[str, Any] = field(default_factory=dict)
    """Id of the W&B run, and where it is."""
    updated: float = 0.0


class RunFolder:
    """The files of one run, under their fixed names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.record = path / "record.jsonl"
        self.steps = path / "steps.jsonl"
        self.state = path / "state.json"
        self.checkpoint = path / "checkpoint.pt"
        self.output = path / "output.log"

    def read_state(self) -> State | None:
        """The state on disk, or None where the run was never started.

        Raises:
            UsageError: the file is damaged.
        """
        try:
            content = json.loads(self.state.read_text())
            known = {f.name for f in fields(State)}
            return State(**{key: value for key, value in content.items() if key in known})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{self.state} is damaged ({error}): look at it, or remove it"
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from working on this run.

        Raises:
            UsageError: another process has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                state = self.read_state()
                who = {} if state is None else state.environment
                raise UsageError(
                    f"{self.path} is being worked on by process {who.get('pid', 'unknown')} on "
                    f"{who.get('host', 'this machine')}: wait for it, or stop it"
                ) from error
            for left in self.path.glob(".*.tmp"):  # by a process that was killed while writing
                left.unlink()
            yield

    def write_state(self, state: State) -> None:
        state.updated = time.time()
        write_whole(self.state, json.dumps(asdict(state), indent=1, allow_nan=False).encode())


def write_whole(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write a file so that readers, and a crash, see the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
