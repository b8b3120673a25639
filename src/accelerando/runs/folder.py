"""A run's folder, and the file that says what became of the run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from accelerando.atomic_write import write_atomic
from accelerando.checks import UsageError
from accelerando.runs.run_lock import run_lock

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
    progress: float = 0.0
    """Epochs done, the begun one in part."""
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
        self.previous = path / "checkpoint.previous.pt"
        self.still_mine: Callable[[], None] = lambda: None
        """Raises UsageError where another process has taken over; called before a write."""
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
            raise UsageError(f"{self.state} is damaged ({error})") from error

    def readable_state(self) -> State | None:
        """The state on disk, or None where there is none that can be read: it has not ended."""
        with suppress(UsageError):
            return self.read_state()
        return None

    @contextmanager
    def locked(
        self, notify: Callable[[str], None], check_interrupt: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Keep other processes from working on this run; set aside a state that is damaged.

        Args:
            notify: told in words what is waited for.
            check_interrupt: called while it waits; what it raises ends the waiting.

        Raises:
            Taken: another process has it.
        """
        with run_lock(self.path, notify, check_interrupt) as self.still_mine:
            for left in self.path.glob(".*.tmp"):  # by a process that was killed while writing
                left.unlink()
            self._set_aside_damaged_state(notify)
            yield

    def _set_aside_damaged_state(self, notify: Callable[[str], None]) -> None:
        """A power cut may leave an empty one: it is written far too often to wait for the disk."""
        try:
            self.read_state()
        except UsageError as error:
            aside = self.state.with_name("state.damaged.json")
            self.state.replace(aside)
            notify(f"{error}, now {aside.name}: the run goes on from its checkpoint")

    def write_state(self, state: State, *, sync: bool = False) -> None:
        self.still_mine()
        state.updated = time.time()
        content = json.dumps(asdict(state), indent=1, allow_nan=False).encode()
        write_atomic(self.state, content, sync=sync)
