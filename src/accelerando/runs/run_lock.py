"""Lock on a run folder: one process at a time works on a run, on any host, over NFS too.

The lock is a file ``.claim-<n>`` that only one process can create; its owner touches it every few
seconds (the heartbeat). A process that finds the lock of a dead owner creates ``.claim-<n+1>``. The
highest number is the current lock; an owner wrongly presumed dead notices that its file is gone.
This needs neither synchronised clocks nor locks of the file system (as ``filelock`` does), which
are unreliable on clusters.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from accelerando.checks import UsageError

HEARTBEAT_SECONDS = 10.0
"""Interval at which the owner of a lock touches it."""
TIMEOUT_SECONDS = 4 * HEARTBEAT_SECONDS
"""An owner on another machine is dead after this time without a heartbeat."""
PREFIX = ".claim-"


class RunLocked(UsageError):
    """Another process is working on the run."""


@dataclass(frozen=True)
class Owner:
    """The process that created a lock file."""

    host: str
    machine: str
    """Boot id and PID namespace (containers have their own); empty if unknown."""
    pid: int
    started: str
    """Start time of the process, in clock ticks since boot: distinguishes reused PIDs."""
    job: str = ""
    """SLURM job, step and task, unchanged by a requeue; empty outside SLURM."""
    restarts: int = 0
    """Number of times that SLURM requeued the job."""
    token: str = ""
    """Random: distinguishes two locks of the same process."""

    @classmethod
    def current(cls) -> Owner:
        """Return the calling process as an owner, with a new token."""
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID")
        job = ".".join(os.environ[name] for name in names if name in os.environ)
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        pid = os.getpid()
        token = secrets.token_hex(8)
        return cls(platform.node(), _machine_id(), pid, _start_time(pid), job, restarts, token)

    def __str__(self) -> str:
        if self == UNKNOWN:
            return "another process"
        job = f" (SLURM job {self.job})" if self.job else ""
        return f"process {self.pid} on {self.host}{job}"

    def is_dead(self) -> bool | None:
        """Whether the process has ended; None if only the heartbeat can tell."""
        if self.machine == _machine_id() != "":
            return _start_time(self.pid) != self.started
        current = Owner.current()
        requeued = self.job and self.job == current.job and self.restarts < current.restarts
        return True if requeued else None


UNKNOWN = Owner(host="", machine="", pid=0, started="")
"""The owner of an incomplete lock file."""


@dataclass(frozen=True)
class LockFile:
    """The current lock of a folder."""

    path: Path
    owner: Owner

    @property
    def number(self) -> int:
        return int(self.path.name.removeprefix(PREFIX))

    def last_heartbeat(self) -> float | None:
        """Time of the last heartbeat by the file system's clock; None if the file is gone."""
        try:
            # open, not stat: NFS revalidates its cached attributes when a file is opened
            with self.path.open("rb") as file:
                return os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None


def current_lock(folder: Path) -> LockFile | None:
    """Return the current lock of a folder, or None if it is not locked."""
    paths = [path for path in folder.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdigit()]
    if not paths:
        return None
    path = max(paths, key=lambda path: int(path.name[len(PREFIX) :]))
    for _ in range(20):
        try:
            content = json.loads(path.read_text())
            return LockFile(path, Owner(**{f.name: content[f.name] for f in fields(Owner)}))
        except FileNotFoundError:
            return current_lock(folder)
        except (ValueError, KeyError, TypeError):
            time.sleep(0.05)  # being written, unless its owner died in between
    return LockFile(path, UNKNOWN)


class RunLock:
    """The lock that this process has on a run folder; created by ``run_lock``."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self._path, self._owner = path, owner

    def check(self) -> None:
        """Verify that this is still the current lock. Call before writing to the folder.

        Raises:
            UsageError: another process took over, presuming this one dead, or the folder is gone.
        """
        if not self._is_current():
            folder = self._path.parent
            lock = current_lock(folder) if folder.exists() else None
            event = "was removed" if lock is None else f"was taken over by {lock.owner}"
            raise UsageError(f"{folder} {event}; this process stops without writing to it")

    def _is_current(self) -> bool:
        # the number alone is not enough: after a release numbers start at 1 again
        with suppress(OSError, ValueError, KeyError):
            return bool(json.loads(self._path.read_text())["token"] == self._owner.token)
        return False

    def _send_heartbeats(self, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # the disk is unreachable, or ``check`` reports the takeover
                if self._is_current():
                    os.utime(self._path)

    def _release(self) -> None:
        # an error here would hide the first one; rmdir fails unless the folder is empty
        with suppress(OSError):
            if self._is_current():
                self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()


@contextmanager
def run_lock(
    folder: Path,
    notify: Callable[[str], None] = print,
    check_interrupt: Callable[[], None] = lambda: None,
) -> Iterator[RunLock]:
    """Lock a run folder against other processes.

    Args:
        folder: the run folder, created if missing and removed again if left empty.
        notify: called with a message if the owner of an earlier lock has to be waited for.
        check_interrupt: called while waiting; an exception that it raises ends the wait.

    Raises:
        RunLocked: another process is working on the run.
    """
    lock = _acquire(folder, notify, check_interrupt)
    stop = threading.Event()
    thread = threading.Thread(target=lock._send_heartbeats, args=(stop,), daemon=True)
    thread.start()
    try:
        yield lock
    finally:
        stop.set()
        thread.join()
        lock._release()


def _acquire(
    folder: Path, notify: Callable[[str], None], check_interrupt: Callable[[], None]
) -> RunLock:
    owner = Owner.current()
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        previous = current_lock(folder)
        if previous is not None and not _wait_until_dead(previous, notify, check_interrupt):
            raise RunLocked(
                f"{folder} is locked by {previous.owner}: wait for it to end, or stop it"
            )
        path = folder / f"{PREFIX}{1 if previous is None else previous.number + 1}"
        try:
            _create(path, owner)
        except (FileExistsError, FileNotFoundError):
            continue  # another process was faster, or released its lock and removed the folder
        # ``previous`` may be outdated: another process may have created a higher lock since, or
        # replaced the dead owner's and released it, so that numbers started at 1 again
        latest = current_lock(folder)
        is_newer = latest is not None and latest.path != path
        if is_newer or (previous is not None and not previous.path.exists()):
            path.unlink(missing_ok=True)
            continue
        for other in folder.glob(f"{PREFIX}*"):
            if other != path:
                other.unlink(missing_ok=True)
        return RunLock(path, owner)


def _create(path: Path, owner: Owner) -> None:
    """Write a lock file unless it exists. On a full disk none is left for others to wait for."""
    with path.open("xb", buffering=0) as file:
        try:
            file.write(json.dumps(asdict(owner)).encode())
        except OSError as error:
            path.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from error


def _wait_until_dead(
    lock: LockFile, notify: Callable[[str], None], check_interrupt: Callable[[], None]
) -> bool:
    """Return whether the owner of a lock is dead; if unknown, wait for its heartbeat."""
    is_dead = lock.owner.is_dead()
    if is_dead is not None:
        return is_dead
    first, deadline = lock.last_heartbeat(), time.monotonic() + TIMEOUT_SECONDS
    notify(f"{lock.path.parent} was locked by {lock.owner}: waiting for its heartbeat")
    while time.monotonic() < deadline:
        time.sleep(min(1.0, TIMEOUT_SECONDS / 10))
        check_interrupt()
        heartbeat = lock.last_heartbeat()
        if heartbeat is None:
            return True
        if heartbeat != first:
            return False
    return True


def _machine_id() -> str:
    """Boot id and PID namespace; empty if unknown, so that only heartbeats count."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _start_time(pid: int) -> str:
    """Clock ticks from boot to the start of a process; empty if unknown or it has ended."""
    with suppress(OSError):
        # the second field, the name in parentheses, may contain spaces and parentheses
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else numbers[18]  # zombies have ended
    return ""
