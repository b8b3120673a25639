"""Where runs and sweeps say how they go, for as long as somebody reads it."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console


def make_console() -> Console:
    """A console on standard error; a pipe that is closed, or a terminal that is gone, ends no run.

    Left to itself rich would end the process.
    """
    file = cast(IO[str], _WhileItIsRead(sys.stderr))
    return Console(file=file, soft_wrap=True, highlight=False, markup=False)


def echo(line: str) -> None:
    """Print a line to standard output, which may be a pipe that is closed."""
    print(line, file=cast(IO[str], _WhileItIsRead(sys.stdout)), flush=True)


class _WhileItIsRead:
    """A stream that takes nothing more, and raises nothing, once it cannot be written to.

    Args:
        stream: None: there is none, as Python has it after ``2>&-``.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream, self._read = stream or io.StringIO(), True

    def write(self, text: str) -> int:
        if self._read:
            try:
                self._stream.write(text)
            except OSError:
                self._close()
        return len(text)

    def flush(self) -> None:
        if self._read:
            try:
                self._stream.flush()
            except OSError:
                self._close()

    def _close(self) -> None:
        self._read = False
        # else Python, which keeps what it could not write, fails at its end because of it
        with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
