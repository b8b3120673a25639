"""Write files atomically: a reader, or a crash, finds the old content or the new, never a part."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def open_atomic(
    path: Path,
    *,
    keep: Path | None = None,
    sync: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends without an error.

    Args:
        path: the file; unchanged if writing fails.
        keep: path that the old file is moved to; None to overwrite it.
        sync: flush the content to disk before the rename, and the rename itself.
        check: called just before the rename; if it raises, the old file stays.
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
            _sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # errors of write() name no file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _sync_folder(folder: Path) -> None:
    """Flush a rename to disk: a power cut could undo it otherwise."""
    with suppress(OSError):  # not supported by every file system, and either file is complete
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomic(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write ``content`` to ``path`` atomically; see ``open_atomic``."""
    with open_atomic(path, sync=sync) as file:
        file.write(content)
