"""Folders for downloads and caches, shared by processes on one or several hosts.

A folder appears atomically: it is written under a temporary name next to its destination, then
renamed. The rename arbitrates between processes that create the same folder; the lock only spares
them duplicate work on file systems that support locks.
"""

from __future__ import annotations

import fcntl
import math
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from accelerando.interruption import check_interrupt

TEMPORARY_PREFIX = ".accelerando-"
"""Marks our temporary folders; the data folder may hold files of other programs."""
LEFTOVER_AGE = 24 * 3600.0
"""Seconds after which an unlocked temporary folder is taken to be left by a killed process."""


def data_folder() -> Path:
    """Return the folder of downloads and caches: $ACCELERANDO_DATA or ~/.cache/accelerando."""
    variable = os.environ.get("ACCELERANDO_DATA")
    folder = Path(variable).expanduser() if variable else Path.home() / ".cache" / "accelerando"
    return folder.absolute()


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock while other processes wait for it.

    On a file system without locks every process enters immediately.

    Args:
        path: the lock file. It is never removed: a process that waits for the removed file and one
            that creates a new file would both enter.

    Raises:
        OSError: the file cannot be opened for writing.
        Interrupted: a signal arrived while waiting.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        report_time = time.monotonic() + 5
        while not _try_lock(file.fileno()):
            if time.monotonic() > report_time:
                print(f"waiting for another process to release {path}", file=sys.stderr)
                report_time = math.inf
            time.sleep(0.05)
            check_interrupt()
        yield


def _try_lock(file: int) -> bool:
    """Lock the file without waiting; return False if another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # this file system has no locks
    return True


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Create a temporary folder in ``parent`` and remove it on exit.

    If the process is killed, ``remove_leftovers`` removes the folder later; a lock file next to the
    yielded folder shows that the process is alive.

    Raises:
        OSError: ``parent`` cannot be created or written to.
    """
    parent.mkdir(parents=True, exist_ok=True)
    outer = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent))
    try:
        with (outer / "lock").open("w") as lock:
            _try_lock(lock.fileno())
            inner = outer / "files"  # follows the umask; mkdtemp's folder is private
            inner.mkdir()
            yield inner
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def publish(source: Path, target: Path) -> None:
    """Rename the folder ``source`` to ``target``, or add the files that ``target`` lacks.

    If two processes publish the same folder, the files of the first are kept because other
    processes may already be reading them.

    Raises:
        OSError: the files cannot be moved.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        for path in source.iterdir():
            if not (target / path.name).exists():
                path.rename(target / path.name)


def quarantine(path: Path) -> None:
    """Move a corrupt folder out of the way without disturbing the processes that read it.

    ``remove_leftovers`` removes it a day later.
    """
    os.utime(path)  # its age counts from now
    path.rename(path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"))


def remove_leftovers(parent: Path) -> None:
    """Remove temporary folders that are older than a day and whose process has ended."""
    for path in parent.glob(f"{TEMPORARY_PREFIX}*"):
        with suppress(OSError):
            old = time.time() - path.stat().st_mtime > LEFTOVER_AGE
            if old and not _is_locked(path / "lock"):
                shutil.rmtree(path)


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r+") as file:
            return not _try_lock(file.fileno())
    except FileNotFoundError:
        return False
