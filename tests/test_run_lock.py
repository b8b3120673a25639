"""The lock on a run folder: races, dead owners, other machines and requeued jobs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from accelerando.checks import UsageError
from accelerando.runs import run_lock as lock_module
from accelerando.runs.run_lock import Owner, RunLocked, current_lock, run_lock
from helpers import DEAD_PID, REMOTE_OWNER, forkserver, start_process, write_lock


def lock_files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def ignore(_: str) -> None: ...


def acquire(folder: Path) -> None:
    """Lock a folder, or raise if another process has locked it."""
    run_lock(folder, ignore).__enter__()


def race(folder: Path, start: Any, results: Any) -> None:
    """Lock a folder for a second, at the same moment as another process."""
    start.wait()
    try:
        with run_lock(folder, ignore):
            results.put("won")
            time.sleep(1)
    except RunLocked:
        results.put("lost")


@pytest.mark.parametrize("after_dead_owner", [False, True])
def test_one_of_two_processes_wins_every_race(after_dead_owner: bool, tmp_path: Path) -> None:
    context = forkserver()
    for number in range(20):
        folder = tmp_path / str(number)
        if after_dead_owner:
            write_lock(folder, replace(Owner.current(), pid=DEAD_PID), number=3)
        start, results = context.Barrier(2), context.Queue()
        racers = [context.Process(target=race, args=(folder, start, results)) for _ in range(2)]
        for racer in racers:
            racer.start()
        assert sorted(results.get(timeout=30) for _ in racers) == ["lost", "won"]
        for racer in racers:
            racer.join()
        assert lock_files(folder) == []


def test_folder_is_locked_until_the_block_ends(tmp_path: Path) -> None:
    with run_lock(tmp_path, ignore) as lock:
        lock.check()
        with pytest.raises(RunLocked, match=f"is locked by process {os.getpid()} on"):
            acquire(tmp_path)
        lock.check()
    assert lock_files(tmp_path) == []
    with run_lock(tmp_path, ignore):
        pass


def test_killed_owner_on_the_same_machine_is_detected_immediately(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from accelerando.runs.run_lock import run_lock\n"
        "with run_lock(Path(sys.argv[1]), print): print('locked', flush=True); time.sleep(60)"
    )
    process = start_process(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(RunLocked, match=f"process {process.pid}"):
            acquire(tmp_path)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        with run_lock(tmp_path, pytest.fail):
            assert lock_files(tmp_path) == [".claim-2"]


def test_reused_pid_is_another_process(tmp_path: Path) -> None:
    write_lock(tmp_path, replace(Owner.current(), started="1"))
    with run_lock(tmp_path, pytest.fail):
        pass


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock_module, "TIMEOUT_SECONDS", 1.0)


@pytest.mark.usefixtures("short_timeout")
def test_heartbeat_of_a_remote_owner_is_awaited(tmp_path: Path) -> None:
    messages: list[str] = []
    write_lock(tmp_path, REMOTE_OWNER)
    begun = time.monotonic()
    with run_lock(tmp_path, messages.append):
        assert time.monotonic() - begun >= 1.0
    assert messages == [f"{tmp_path} was locked by process 1 on node7: waiting for its heartbeat"]


@pytest.mark.usefixtures("short_timeout")
def test_remote_owner_with_a_wrong_clock_keeps_its_lock(tmp_path: Path) -> None:
    path = write_lock(tmp_path, REMOTE_OWNER)
    context = forkserver()
    stop, started = context.Event(), context.Event()
    owner = context.Process(target=send_heartbeats, args=(path, stop, started))
    owner.start()
    try:
        assert started.wait(60)
        with pytest.raises(RunLocked, match="is locked by process 1 on node7"):
            acquire(tmp_path)
    finally:
        stop.set()
        owner.join()


def send_heartbeats(path: Path, stop: Any, started: Any) -> None:
    """Touch a lock file as an owner does whose clock is in 1970."""
    seconds = 0
    started.set()
    while not stop.wait(0.05):
        seconds += 1
        os.utime(path, (seconds, seconds))


@pytest.mark.usefixtures("short_timeout")
def test_heartbeat_of_an_incomplete_lock_file_is_awaited(tmp_path: Path) -> None:
    (tmp_path / ".claim-4").write_text('{"host": "no')
    with run_lock(tmp_path, ignore):
        assert lock_files(tmp_path) == [".claim-5"]


@pytest.mark.usefixtures("short_timeout")
def test_owner_sends_heartbeats(tmp_path: Path) -> None:
    with run_lock(tmp_path, ignore):
        lock = current_lock(tmp_path)
        assert lock is not None
        first = lock.last_heartbeat()
        time.sleep(0.3)
        assert lock.last_heartbeat() != first


def test_requeued_job_takes_over_its_own_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_requeue = replace(REMOTE_OWNER, job="77.0.0")
    write_lock(tmp_path, before_requeue)
    for name, value in (("JOB_ID", "77"), ("STEP_ID", "0"), ("PROCID", "0")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert before_requeue.is_dead() is None  # not requeued, and on another machine
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert before_requeue.is_dead()
    with run_lock(tmp_path, pytest.fail):
        lock = current_lock(tmp_path)
        assert lock is not None
        assert str(lock.owner).endswith("(SLURM job 77.0.0)")


def test_check_raises_after_a_takeover(tmp_path: Path) -> None:
    with run_lock(tmp_path, ignore) as lock:
        write_lock(tmp_path, REMOTE_OWNER, number=2)
        (tmp_path / ".claim-1").unlink()
        with pytest.raises(UsageError, match="was taken over by process 1 on node7; this process"):
            lock.check()
    assert lock_files(tmp_path) == [".claim-2"]


def test_check_raises_after_a_takeover_under_the_same_number(tmp_path: Path) -> None:
    """While this process was suspended, others took and released the lock, so numbers restarted."""
    with run_lock(tmp_path, ignore) as lock:
        (tmp_path / ".claim-1").unlink()
        with run_lock(tmp_path, ignore) as other:
            assert lock_files(tmp_path) == [".claim-1"]
            other.check()
            with pytest.raises(UsageError, match="was taken over"):
                lock.check()
        write_lock(tmp_path, REMOTE_OWNER)
    assert lock_files(tmp_path) == [".claim-1"]  # only its owner removes it


def test_process_that_stalls_while_locking_does_not_steal_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile others take the lock of the dead owner and release it, so numbers restart at 1."""
    write_lock(tmp_path, replace(Owner.current(), pid=DEAD_PID), number=3)
    others, wait_until_dead = ExitStack(), lock_module._wait_until_dead

    def stall(*arguments: Any) -> bool:
        monkeypatch.setattr(lock_module, "_wait_until_dead", wait_until_dead)
        is_dead = wait_until_dead(*arguments)
        with run_lock(tmp_path, ignore):
            pass
        others.callback(others.enter_context(run_lock(tmp_path, ignore)).check)
        return is_dead

    monkeypatch.setattr(lock_module, "_wait_until_dead", stall)
    with others:
        with pytest.raises(RunLocked):
            acquire(tmp_path)
        assert lock_files(tmp_path) == [".claim-1"]


def test_full_disk_leaves_no_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ = Path.open

    def open_full(path: Path, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        file = open_(path, mode, *arguments, **keywords)
        if mode != "xb":
            return file
        file.close()
        return open_(Path("/dev/full"), "wb", **keywords)

    with monkeypatch.context() as patched, pytest.raises(OSError, match=r"No space.*\.claim-1"):
        patched.setattr(Path, "open", open_full)
        acquire(tmp_path)
    assert lock_files(tmp_path) == []
