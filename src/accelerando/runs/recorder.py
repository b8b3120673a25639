"""Everything that happens in a run goes through here: record first, then its views."""

from __future__ import annotations

import math
import time
from typing import Protocol

from accelerando.checks import UsageError
from accelerando.runs.folder import RunFolder, State
from accelerando.runs.record import JsonLines, Row, merge_rows

HEARTBEAT = 1.0
"""Seconds between two writes of the state while training."""


class View(Protocol):
    """Something that shows rows as they are made."""

    def log(self, row: Row) -> None: ...


class Recorder:
    """Writes rows to the record, then mirrors them and keeps ``state.json`` up to date.

    Args:
        folder: the run's folder.
        state: what is known of the run; its position is kept up to date here.
        lengths: bytes of ``record.jsonl`` and ``steps.jsonl`` to keep, from the checkpoint.
        mirror: W&B; it is given all rows of the run from the first on, in the order in which they
            are made, and leaves out those that it has.
        view: a progress bar; it is given those that are made now.
    """

    def __init__(
        self,
        folder: RunFolder,
        state: State,
        lengths: tuple[int, int],
        *,
        mirror: View | None = None,
        view: View | None = None,
    ) -> None:
        self._folder, self.state = folder, state
        self._mirror, self._view = mirror, view
        self._record, self._steps = (
            JsonLines(path, keep)
            for path, keep in zip((folder.record, folder.steps), lengths, strict=True)
        )
        self._written = 0.0
        try:  # in any case: no run goes on from a damaged record
            earlier = self._steps.rows(), self._record.rows()
        except UsageError:
            self.close()
            raise
        if mirror is not None:
            for row in merge_rows(*earlier):
                mirror.log(row)

    def measured(self, row: Row) -> None:
        """A measurement: a row of ``record.jsonl``."""
        # an estimate from a subset goes by another name, and is no minimum of the exact norm
        norm, lowest = row.get("full_gradient_norm", math.nan), self.state.full_gradient_norm
        if math.isfinite(norm):
            self.state.full_gradient_norm = norm if lowest is None else min(norm, lowest)
        self._append(self._record, row)

    def trained(self, row: Row) -> None:
        """A stretch of training: a row of ``steps.jsonl``."""
        self._append(self._steps, row)

    def _append(self, lines: JsonLines, row: Row) -> None:
        due = time.monotonic() - self._written > HEARTBEAT
        if due:  # also before rows are written: another process may have taken over
            self._folder.still_mine()
        written = lines.append(row)
        self.state.epoch, self.state.step = int(row["epoch"]), row["step"]
        self.state.progress = row["epoch"]
        self.state.seconds = row["seconds"]
        if self._mirror is not None:
            self._mirror.log(written)  # what a sync would send: null where a value is not finite
        if self._view is not None:
            self._view.log(row)
        if due:
            self.write_state()

    def write_state(self) -> None:
        self._folder.write_state(self.state)
        self._written = time.monotonic()

    def lengths(self) -> tuple[int, int]:
        """Bytes of the record's files, after bringing them to the disk."""
        return self._record.sync(), self._steps.sync()

    def close(self) -> None:
        self._record.close()
        self._steps.close()
