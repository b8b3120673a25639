"""Write files atomically: after a crash, and for a reader, a file has its old or new content."""

from __future__ import annotations

import errno
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
            with suppress(OSError):  # both versions of the file are complete
                fsync_path(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # errors of write() name no file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def fsync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk.

    Raises:
        OSError: the data cannot be written.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot flush folders
            raise
    finally:
        os.close(file)


def write_atomic(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write ``content`` to ``path`` atomically; see ``open_atomic``."""
    with open_atomic(path, sync=sync) as file:
        file.write(content)
