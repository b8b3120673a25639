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


def write_atomic(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write ``content`` as a whole file."""
    with open_atomic(path, sync=sync) as file:
        file.write(content)
