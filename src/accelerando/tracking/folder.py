"""A run's folder, and the file that says what became of the run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

from accelerando.checks import UsageError
from accelerando.tracking.claim import claimed

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
    def held(
        self, say: Callable[[str], None], pause: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Keep other processes from working on this run; set aside a state that is damaged.

        Args:
            say: told in words what is waited for.
            pause: called while it waits; what it raises ends the waiting.

        Raises:
            Taken: another process has it.
        """
        with claimed(self.path, say, pause) as self.still_mine:
            for left in self.path.glob(".*.tmp"):  # by a process that was killed while writing
                left.unlink()
            self._set_aside_damaged_state(say)
            yield

    def _set_aside_damaged_state(self, say: Callable[[str], None]) -> None:
        """A power cut may leave an empty one: it is written far too often to wait for the disk."""
        try:
            self.read_state()
        except UsageError as error:
            aside = self.state.with_name("state.damaged.json")
            self.state.replace(aside)
            say(f"{error}, now {aside.name}: the run goes on from its checkpoint")

    def write_state(self, state: State, *, sync: bool = False) -> None:
        self.still_mine()
        state.updated = time.time()
        content = json.dumps(asdict(state), indent=1, allow_nan=False).encode()
        write_whole(self.state, content, sync=sync)


@contextmanager
def whole_file(
    path: Path,
    *,
    keep: Path | None = None,
    sync: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Iterator[BinaryIO]:
    """Write a file so that readers, and a crash, see the old content or the new, never a part.

    Args:
        path: the file; untouched where writing fails.
        keep: what the old file is called afterwards; None: it is gone.
        sync: bring the content to the disk before it gets its name, and then the name.
        check: called just before it gets its name; what it raises leaves the old file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        check()
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
        if sync:
            _sync_names(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a write does not say where
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _sync_names(folder: Path) -> None:
    """Bring to the disk which names a folder holds: a power cut would bring the old file back."""
    with suppress(OSError):  # not every file system can, and the files are whole in any case
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def write_whole(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write ``content`` as a whole file."""
    with whole_file(path, sync=sync) as file:
        file.write(content)
