"""Folders that many processes, on many hosts, read and fill at the same time.

What is made appears whole or not at all: it is made in a temporary folder beside its place and
renamed. The rename decides between processes that make the same thing; a lock only spares them the
work, where the file system has locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from accelerando.interruption import check_interrupt

PREFIX = ".accelerando-"
"""Of temporary folders; the data folder may hold other programs' files, which stay."""
DAY = 24 * 3600.0
"""Age in seconds at which a temporary folder that nobody holds is a killed process's."""


def data_folder() -> Path:
    """Where downloads and decoded data go: $ACCELERANDO_DATA, else the user's cache folder."""
    given = os.environ.get("ACCELERANDO_DATA")
    folder = Path(given).expanduser() if given else Path.home() / ".cache" / "accelerando"
    return folder.absolute()


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let one process in and the others wait; where the file system has no locks, let all in.

    Args:
        path: the lock file, which stays: removing it would let a second process in.

    Raises:
        OSError: the file cannot be opened for writing.
        Interrupted: a signal came while it waited.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        begin, told = time.monotonic(), False
        while not _locked(lock.fileno()):
            if not told and time.monotonic() - begin > 5:
                print(f"waiting for the process that holds {path}", file=sys.stderr)
                told = True
            time.sleep(0.05)
            check_interrupt()
        yield


def _locked(file: int) -> bool:
    """Whether nobody else holds the lock now: it is taken, or there are no locks here."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def workspace(parent: Path) -> Iterator[Path]:
    """A temporary folder in ``parent``, removed at the end.

    A process that is killed leaves it behind, for ``remove_leftovers``; a live one is known by its
    lock on the folder's neighbour ``lock``.

    Raises:
        OSError: ``parent`` cannot be made or written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    outer = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        with (outer / "lock").open("w") as lock:
            _locked(lock.fileno())
            inner = outer / "files"  # made with the user's own permissions, mkdtemp's are narrow
            inner.mkdir()
            yield inner
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def publish(made: Path, target: Path) -> None:
    """Rename the folder ``made`` to ``target``; where that is there already, add what it lacks.

    Two processes may publish the same: the first wins, and what it put there stays untouched, since
    others may be reading it.

    Raises:
        OSError: neither could be done.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        for path in made.iterdir():
            if not (target / path.name).exists():
                path.rename(target / path.name)


def set_aside(path: Path) -> None:
    """Take a folder out of use without pulling it from under those who read it.

    It is removed a day later, by ``remove_leftovers``.
    """
    aside = Path(tempfile.mkdtemp(prefix=PREFIX, dir=path.parent))
    try:
        path.rename(aside / "files")
    except OSError:
        aside.rmdir()
        raise


def remove_leftovers(parent: Path) -> None:
    """Remove temporary folders of killed processes: a day old, and locked by nobody."""
    for path in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY and not _held(path / "lock"):
                shutil.rmtree(path)


def _held(lock: Path) -> bool:
    try:
        with lock.open("r+") as file:
            return not _locked(file.fileno())
    except FileNotFoundError:
        return False


def sync(path: Path) -> None:
    """Have a file, or a folder's list of names, on the disk before going on.

    Raises:
        OSError: it could not be written.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does this to files alone
            raise
    finally:
        os.close(file)
