"""The record: two files of JSON lines, the truth about a run."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerando.checks import UsageError

Row = dict[str, Any]


class JsonLines:
    """A file of JSON lines that is only ever appended to, or cut back to a checkpoint.

    Args:
        path: the file; made where it does not exist.
        keep: bytes to keep, those written when the checkpoint was made; the rest is done again.

    Raises:
        UsageError: the file is shorter than the checkpoint says.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        self._path = path
        # unbuffered: a row is in the file, or it is not
        self._file = path.open("a+b", buffering=0)
        length = self._file.seek(0, os.SEEK_END)
        if length < keep:
            raise UsageError(
                f"{path} holds {length} bytes, its checkpoint was made at {keep}: the record was "
                "cut; remove the run's folder to start it again"
            )
        self._file.truncate(keep)

    def rows(self) -> list[Row]:
        """What is in the file.

        Raises:
            UsageError: the file is damaged.
        """
        self._file.seek(0)
        return _parsed(self._path, self._file.read().splitlines())

    def append(self, row: Row) -> Row:
        """Write one row; it is in the file, for every reader, when this returns.

        Returns:
            The row as readers find it.
        """
        finite = {key: _finite(value) for key, value in row.items()}
        self._write(json.dumps(finite).encode() + b"\n")
        return finite

    def _write(self, line: bytes) -> None:
        """Write it whole: a disk without room for all of it keeps none of it."""
        begin, left = self._file.seek(0, os.SEEK_END), line
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.truncate(begin)
            raise OSError(error.errno, error.strerror, str(self._file.name)) from error

    def sync(self) -> int:
        """Bring everything to the disk; return the length in bytes."""
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._file.close()


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; a last one that was not written whole is no row.

    Raises:
        UsageError: the file is damaged.
    """
    *lines, _ = path.read_bytes().split(b"\n")
    return _parsed(path, lines)


def _parsed(path: Path, lines: Sequence[bytes]) -> list[Row]:
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}): look at it, or remove it") from error


def merge_rows(steps: Sequence[Row], record: Sequence[Row]) -> list[Row]:
    """Training rows and measurements in the order in which they were made."""
    # an epoch's training row comes before its measurement
    every = [(row["step"], 0, row) for row in steps] + [(row["step"], 1, row) for row in record]
    return [row for _, _, row in sorted(every, key=lambda entry: entry[:2])]


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: null stands for both."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
