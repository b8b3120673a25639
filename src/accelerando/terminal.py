"""Output of runs and sweeps to the terminal, which may be closed while they continue."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console


def make_console() -> Console:
    """Return a console on standard error that ignores a closed pipe or terminal.

    rich would end the process.
    """
    file = cast(IO[str], _IgnoreClosed(sys.stderr))
    return Console(file=file, soft_wrap=True, highlight=False, markup=False)


def echo(line: str) -> None:
    """Print a line to standard output and ignore a closed pipe."""
    print(line, file=cast(IO[str], _IgnoreClosed(sys.stdout)), flush=True)


class _IgnoreClosed:
    """Stream that discards its output once the stream below cannot be written to.

    Args:
        stream: the stream below; None, as after ``2>&-``, discards everything.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream, self._is_open = stream or io.StringIO(), True

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, call: Callable[..., object], *arguments: str) -> None:
        if not self._is_open:
            return
        try:
            call(*arguments)
        except OSError:
            self._is_open = False
            # Python flushes what is still buffered when it exits, and would fail there
            with suppress(OSError), Path(os.devnull).open("wb") as devnull:
                os.dup2(devnull.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
