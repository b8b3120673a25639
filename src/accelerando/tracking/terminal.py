"""Where runs and sweeps say how they go: standard error, for as long as somebody reads it."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import IO, Any, cast

from rich.console import Console


def terminal() -> Console:
    """A console on standard error; a pipe that is closed, or a terminal that is gone, ends no run.

    Left to itself rich would end the process.
    """
    file = cast(IO[str], _WhileItIsRead(sys.stderr))
    return Console(file=file, soft_wrap=True, highlight=False, markup=False)


class _WhileItIsRead:
    """A stream that takes nothing more, and raises nothing, once it cannot be written to."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._read = stream, True

    def write(self, text: str) -> int:
        if self._read:
            self._read = False
            with suppress(OSError):
                self._stream.write(text)
                self._read = True
        return len(text)

    def flush(self) -> None:
        if self._read:
            self._read = False
            with suppress(OSError):
                self._stream.flush()
                self._read = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
