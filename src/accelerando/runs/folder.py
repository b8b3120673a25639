"""The run folder: its files, and ``state.json``, which holds the status and progress of the run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from accelerando.atomic_write import write_atomic
from accelerando.checks import UsageError
from accelerando.runs.run_lock import RunLock, run_lock

STATE_FILE, RECORD_FILE = "state.json", "record.jsonl"


class Status(StrEnum):
    """Status of a run. Its process writes one of the first five to ``state.json``."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    DIVERGED = "diverged"
    FAILED = "failed"
    FINISHED = "finished"
    # read from the run folder
    LOST = "lost"
    """``state.json`` says running, but the process is gone."""
    UNREADABLE = "unreadable"
    # reported by SLURM
    SUBMITTED = "submitted"
    """Submitted, but SLURM does not respond."""
    PENDING = "pending"
    """The job waits for its first start."""
    REQUEUED = "requeued"
    """The job waits for its next start."""
    STARTING = "starting"
    """The job is running, but the run has not started."""
    # in a sweep on this machine
    NOT_STARTED = "not started"

    @property
    def is_final(self) -> bool:
        """Whether the run is complete: it will not be started again."""
        return self in (Status.FINISHED, Status.DIVERGED)


@dataclass
class State:
    """Status and progress of a run, stored as ``state.json``.

    Args:
        status: a ``Status``, or its value as read from the file.
        run: the run id.
        dataset, model, scheduler: their names.
        epochs, steps: length of the whole schedule.
        epoch, step: completed epochs and steps.
        progress: completed epochs, including the fraction of the current one.
        full_gradient_norm: minimum so far; None before the first measurement.
        seconds: training time over all starts.
        message: why the run has this status.
        traceback: of the error that ended the run.
        overrides: command-line overrides that started the run.
        environment: hardware and software versions.
        wandb: id, project, URL and progress of the W&B run.
        updated: when the file was written, in seconds since 1970.
    """

    status: Status
    run: str
    dataset: str
    model: str
    scheduler: str
    seed: int
    epochs: int
    steps: int
    epoch: int = 0
    progress: float = 0.0
    step: int = 0
    full_gradient_norm: float | None = None
    seconds: float = 0.0
    message: str = ""
    traceback: str = ""
    overrides: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    wandb: dict[str, Any] = field(default_factory=dict)
    updated: float = 0.0

    def __post_init__(self) -> None:
        self.status = Status(self.status)

    def write(self, path: Path, *, sync: bool = False) -> None:
        """Write ``state.json`` atomically, with ``sync`` durably; see ``write_atomic``."""
        self.updated = time.time()
        content = json.dumps(asdict(self), indent=1, allow_nan=False).encode()
        write_atomic(path, content, sync=sync)


class RunFolder:
    """Paths of the files of a run, and access to its state."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.record = path / RECORD_FILE
        self.steps = path / "steps.jsonl"
        self.state = path / STATE_FILE
        self.checkpoint = path / "checkpoint.pt"
        self.previous_checkpoint = path / "checkpoint.previous.pt"
        self.output = path / "output.log"

    def read_state(self) -> State | None:
        """Read the state from disk. Return None if the run has never started.

        Raises:
            UsageError: the file is corrupt.
        """
        try:
            content = json.loads(self.state.read_text())
            known = {f.name for f in fields(State)}
            return State(**{key: value for key, value in content.items() if key in known})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"{self.state} is corrupt ({error})") from error

    def readable_state(self) -> State | None:
        """Read the state from disk. Return None if the file is missing or corrupt."""
        with suppress(UsageError):
            return self.read_state()
        return None

    def write_state(self, state: State, lock: RunLock, *, sync: bool = False) -> None:
        """Write the state, unless another process took over the run."""
        lock.check()
        state.write(self.state, sync=sync)

    @contextmanager
    def locked(
        self, notify: Callable[[str], None], check_interrupt: Callable[[], None] = lambda: None
    ) -> Iterator[RunLock]:
        """Lock the run, see ``run_lock``, and quarantine its state if it is corrupt."""
        with run_lock(self.path, notify, check_interrupt) as lock:
            for temporary in self.path.glob(".*.tmp"):  # of a process killed while writing
                temporary.unlink()
            self._quarantine_corrupt_state(notify)
            yield lock

    def _quarantine_corrupt_state(self, notify: Callable[[str], None]) -> None:
        # a power cut can leave an empty file: the state is written too often to sync every time
        try:
            self.read_state()
        except UsageError as error:
            quarantined = self.state.with_name("state.damaged.json")
            self.state.replace(quarantined)
            notify(f"{error}, renamed to {quarantined.name}; resuming from the checkpoint")
