"""The record of a run: measurements and training rows as two files of JSON lines."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from accelerando.checks import UsageError
from accelerando.runs.folder import RunFolder, State
from accelerando.runs.run_lock import RunLock

STATE_SECONDS = 1.0
"""Minimum time between two writes of ``state.json`` while training."""

Row = dict[str, Any]


class JsonLines:
    """A file of JSON lines to append to, created if missing.

    ``keep`` is its length in bytes at the checkpoint; rows after it are removed, since the resumed
    run writes them again.

    Raises:
        UsageError: the file is shorter than ``keep``.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self._path = path
        # unbuffered, so that a row is in the file as soon as ``append`` returns
        self._file = path.open("a+b", buffering=0)
        length = self._file.seek(0, os.SEEK_END)
        if length < keep:
            self._file.close()
            raise UsageError(
                f"{path} has {length} bytes, fewer than the {keep} at its checkpoint: restore it, "
                "or remove the run folder to start again"
            )
        self._file.truncate(keep)

    def rows(self) -> list[Row]:
        """Return all rows; raise UsageError if the file is corrupt."""
        self._file.seek(0)
        return _parse(self._path, self._file.read().splitlines())

    def append(self, row: Row) -> Row:
        """Append a row, and return it as readers see it: null for NaN and infinity."""
        finite = {key: _finite(value) for key, value in row.items()}
        self._write(json.dumps(finite).encode() + b"\n")
        return finite

    def _write(self, line: bytes) -> None:
        """Write a complete line, or on a full disk nothing."""
        begin, rest = self._file.seek(0, os.SEEK_END), line
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(begin)
            raise OSError(error.errno, error.strerror, str(self._file.name)) from error

    def sync(self) -> int:
        """Flush the file to disk and return its length in bytes."""
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._file.close()


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a file, without an incomplete last one; raise UsageError if corrupt."""
    *lines, _ = path.read_bytes().split(b"\n")
    return _parse(path, lines)


def _parse(path: Path, lines: Sequence[bytes]) -> list[Row]:
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise UsageError(
            f"{path} is corrupt ({error}): repair it, or remove the run folder to start again"
        ) from error


def merge_rows(steps: Sequence[Row], record: Sequence[Row]) -> list[Row]:
    """Merge training rows and measurements in the order in which they were logged."""
    # at the end of an epoch the training row is logged before the measurement
    keyed = [(row["step"], 0, row) for row in steps] + [(row["step"], 1, row) for row in record]
    return [row for _, _, row in sorted(keyed, key=lambda entry: entry[:2])]


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


class RowLogger(Protocol):
    """Displays or sends rows."""

    def log(self, row: Row) -> None: ...


class Recorder:
    """Appends rows to the record, then passes them to W&B and the progress bar.

    It also keeps the position, time and minimum norm in ``state.json`` up to date.

    Args:
        folder: the run folder.
        lock: on the run folder.
        state: updated in place.
        lengths: bytes of ``record.jsonl`` and ``steps.jsonl`` to keep, from the checkpoint.
        mirror: W&B. It receives all rows of the run from the first one on, and skips those that it
            has already.
        view: the progress bar. It receives new rows only.
    """

    def __init__(
        self,
        folder: RunFolder,
        lock: RunLock,
        state: State,
        lengths: tuple[int, int] = (0, 0),
        *,
        mirror: RowLogger | None = None,
        view: RowLogger | None = None,
    ) -> None:
        self._folder, self.lock, self.state = folder, lock, state
        self._mirror, self._view = mirror, view
        self._written = 0.0
        self._record = JsonLines(folder.record, lengths[0])
        try:
            self._steps = JsonLines(folder.steps, lengths[1])
        except BaseException:
            self._record.close()
            raise

    def replay(self) -> None:
        """Pass the rows of earlier starts to the mirror; raise UsageError if one is corrupt."""
        for row in merge_rows(self._steps.rows(), self._record.rows()):
            if self._mirror is not None:
                self._mirror.log(row)

    def log_measurement(self, row: Row) -> None:
        """Append a row to ``record.jsonl``."""
        # estimates on a subset have another name, so that the minimum is that of exact norms
        norm, minimum = row.get("full_gradient_norm", math.nan), self.state.full_gradient_norm
        if math.isfinite(norm):
            self.state.full_gradient_norm = norm if minimum is None else min(norm, minimum)
        self._append(self._record, row)

    def log_training(self, row: Row) -> None:
        """Append a row to ``steps.jsonl``."""
        self._append(self._steps, row)

    def _append(self, lines: JsonLines, row: Row) -> None:
        state_is_due = time.monotonic() - self._written > STATE_SECONDS
        if state_is_due:
            self.lock.check()  # also before the row is written, not only with the state
        finite = lines.append(row)
        self.state.epoch, self.state.step = int(row["epoch"]), row["step"]
        self.state.progress = row["epoch"]
        self.state.seconds = row["seconds"]
        if self._mirror is not None:
            self._mirror.log(finite)  # the same as `accelerando sync` would send
        if self._view is not None:
            self._view.log(row)
        if state_is_due:
            self.write_state()

    def write_state(self) -> None:
        self._folder.write_state(self.state, self.lock)
        self._written = time.monotonic()

    def sync(self) -> tuple[int, int]:
        """Flush both files to disk and return their lengths in bytes."""
        return self._record.sync(), self._steps.sync()

    def close(self) -> None:
        self._record.close()
        self._steps.close()
