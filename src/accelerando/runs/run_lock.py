"""One process at a time works on a run: on one host or many, after any death, on NFS too.

A claim is a file that only one process can make: ``.claim-<n>``, n one more than that of the last.
Its owner touches it every few seconds. Who finds another's claim and can tell that its owner is
dead makes the next one; the highest claim counts, and an owner that was taken for dead and is not
finds its file gone. Nothing here needs clocks that agree, or locks that a file system may not have.
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

BEAT = 10.0
"""Seconds between two touches."""
PATIENCE = 4 * BEAT
"""An owner on another machine whose claim is not touched for so long is dead."""
PREFIX = ".claim-"


class RunLocked(UsageError):
    """Another process works on the run."""


@dataclass(frozen=True)
class Owner:
    """A process, told from every other one, also of the same number after a restart."""

    host: str
    machine: str
    """This start of the machine, and the process numbers' name space: containers have their own."""
    pid: int
    started: str
    """When the process started, in the machine's own count."""
    job: str = ""
    """SLURM's job, step and task, "" outside of SLURM: a requeued job keeps them."""
    restarts: int = 0
    """How often SLURM has requeued the job."""
    token: str = ""
    """Drawn for each claim: no two are alike, also of one process."""

    @classmethod
    def this(cls) -> Owner:
        """The calling process."""
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID")
        job = ".".join(os.environ[name] for name in names if name in os.environ)
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        pid = os.getpid()
        token = secrets.token_hex(8)
        return cls(platform.node(), _machine(), pid, _started(pid), job, restarts, token)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" + (f", SLURM job {self.job}" * bool(self.job))

    def same_machine(self) -> bool:
        """Whether this process could see that one."""
        return self.machine == _machine() != ""

    def alive(self) -> bool:
        """Whether the process still runs, as seen from the same machine."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # another user's: it is there
        return _started(self.pid) == self.started

    def earlier_self(self) -> bool:
        """Whether it is this job before SLURM requeued it: then it runs no more."""
        here = Owner.this()
        return bool(self.job) and self.job == here.job and self.restarts < here.restarts


@dataclass(frozen=True)
class LockFile:
    """The highest claim on a folder."""

    path: Path
    owner: Owner | None
    """None where the file cannot be read: its owner died while it made it."""

    @property
    def number(self) -> int:
        return int(self.path.name.removeprefix(PREFIX))

    def beat(self) -> float | None:
        """When its owner last touched it, by the file system's clock; None where it is gone."""
        try:
            # opened, not only looked up: then NFS asks its server, and does not go by what it knew
            with self.path.open("rb") as file:
                return os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None


def current_lock(folder: Path) -> LockFile | None:
    """The claim that counts, or None where nobody works on the folder."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdigit()]
    if not found:
        return None
    path = max(found, key=lambda path: int(path.name[len(PREFIX) :]))
    for _ in range(20):
        try:
            content = json.loads(path.read_text())
            return LockFile(path, Owner(**{f.name: content[f.name] for f in fields(Owner)}))
        except FileNotFoundError:
            return current_lock(folder)
        except (ValueError, KeyError, TypeError):
            time.sleep(0.05)  # it is being written, unless its owner died just then
    return LockFile(path, None)


def owner_dead(claim: LockFile) -> bool | None:
    """Whether its owner is dead; None where only time can tell."""
    owner = claim.owner
    if owner is None:
        return None
    if owner.same_machine():
        return not owner.alive()
    return True if owner.earlier_self() else None


@contextmanager
def run_lock(
    folder: Path,
    notify: Callable[[str], None] = print,
    check_interrupt: Callable[[], None] = lambda: None,
) -> Iterator[Callable[[], None]]:
    """Keep other processes from working on ``folder``.

    Args:
        folder: made where it does not exist.
        notify: told in words what is waited for.
        check_interrupt: called while it waits; what it raises ends the waiting.

    Yields:
        A check to be made before anything is written: it raises UsageError where another process
        has taken the folder, this one having been silent for too long.

    Raises:
        Taken: another process has it.
    """
    mine, owner = _take(folder, notify, check_interrupt)
    over = threading.Event()
    thread = threading.Thread(target=_keep_touching, args=(mine, owner, over), daemon=True)
    thread.start()

    def still_mine() -> None:
        if not _holds(mine, owner):
            now = current_lock(folder) if folder.exists() else None
            what = "was removed" if now is None else f"was taken over by {_who(now)}"
            raise UsageError(f"{folder} {what}: this process stops, and writes nothing more")

    try:
        yield still_mine
    finally:
        over.set()
        thread.join()
        # it may no longer be written to, which has its own error told; only an empty one is removed
        with suppress(OSError):
            if _holds(mine, owner):
                mine.unlink(missing_ok=True)
            folder.rmdir()


def _take(
    folder: Path, notify: Callable[[str], None], check_interrupt: Callable[[], None]
) -> tuple[Path, Owner]:
    owner = Owner.this()
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        found = current_lock(folder)
        if found is not None and not _outlived(found, notify, check_interrupt):
            raise RunLocked(
                f"{folder} is being worked on by {_who(found)}: wait for it, or stop it"
            )
        mine = folder / f"{PREFIX}{1 if found is None else found.number + 1}"
        try:
            _make(mine, owner)
        except (FileExistsError, FileNotFoundError):
            continue  # another was quicker, or left and took the empty folder along: look again
        # the folder was seen as it was a while ago: another may have made a higher claim since, or
        # have followed the dead one and left, so that numbers have begun anew
        after = current_lock(folder)
        newer = after is not None and after.path != mine
        if newer or (found is not None and not found.path.exists()):
            mine.unlink(missing_ok=True)
            continue
        for path in folder.glob(f"{PREFIX}*"):
            if path != mine:
                path.unlink(missing_ok=True)
        return mine, owner


def _make(path: Path, owner: Owner) -> None:
    """Write a claim, if nobody has; on a full disk none is left, which others would wait for."""
    with path.open("xb", buffering=0) as file:
        try:
            file.write(json.dumps(asdict(owner)).encode())
        except OSError as error:
            path.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from error


def _holds(path: Path, owner: Owner) -> bool:
    """Whether a claim is that of ``owner``: after a release numbers begin anew."""
    with suppress(OSError, ValueError, KeyError):
        return bool(json.loads(path.read_text())["token"] == owner.token)
    return False


def _outlived(
    claim: LockFile, notify: Callable[[str], None], check_interrupt: Callable[[], None]
) -> bool:
    """Whether the owner is dead or gone; waits where only time can tell."""
    judged = owner_dead(claim)
    if judged is not None:
        return judged
    last, deadline = claim.beat(), time.monotonic() + PATIENCE
    notify(
        f"{claim.path.parent} was worked on by {_who(claim)}: waiting for a sign of life from it"
    )
    while time.monotonic() < deadline:
        time.sleep(min(1.0, PATIENCE / 10))
        check_interrupt()
        beat = claim.beat()
        if beat is None:
            return True
        if beat != last:
            return False
    return True


def _keep_touching(path: Path, owner: Owner, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with suppress(OSError):  # taken over, or the disk is away: ``still_mine`` sees the first
            if _holds(path, owner):
                os.utime(path)


def _who(claim: LockFile | None) -> str:
    return "another process" if claim is None or claim.owner is None else str(claim.owner)


def _machine() -> str:
    """Empty where it cannot be told: then only heartbeats count."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _started(pid: int) -> str:
    """Clock ticks from the machine's start to the process's; empty where it cannot be told."""
    with suppress(OSError):
        # the second field, a name in parentheses, may hold anything
        state, *fields_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields_[18]  # an ended process that nobody has asked after
    return ""
