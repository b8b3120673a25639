"""One process at a time: races, deaths, other machines, requeued jobs, with real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from accelerando.checks import UsageError
from accelerando.runs import run_lock as lock_module
from accelerando.runs.run_lock import Owner, current_lock, run_lock
from conftest import begin, forkserver

DEAD_PID = 2**22 + 1


def plant(folder: Path, owner: Owner, number: int = 1) -> Path:
    """A claim that another process has left."""
    folder.mkdir(exist_ok=True)
    path = folder / f".claim-{number}"
    path.write_text(json.dumps(asdict(owner)))
    return path


def claims(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def silent(_: str) -> None: ...


def race(folder: Path, start: Any, results: Any) -> None:
    """Try to claim at the same moment as another process, and hold it for a while."""
    start.wait()
    try:
        with run_lock(folder, silent):
            results.put("won")
            time.sleep(1)
    except UsageError:
        results.put("lost")


@pytest.mark.parametrize("leftover", [False, True])
def test_one_of_two_wins_every_race(leftover: bool, tmp_path: Path) -> None:
    context = forkserver()
    for number in range(20):
        folder = tmp_path / str(number)
        if leftover:  # of a process that died
            plant(folder, replace(Owner.current(), pid=DEAD_PID), number=3)
        start, results = context.Barrier(2), context.Queue()
        racers = [context.Process(target=race, args=(folder, start, results)) for _ in range(2)]
        for racer in racers:
            racer.start()
        assert sorted(results.get(timeout=30) for _ in racers) == ["lost", "won"]
        for racer in racers:
            racer.join()
        assert claims(folder) == []


def test_a_folder_is_held_while_its_process_lives(tmp_path: Path) -> None:
    with run_lock(tmp_path, silent) as lock:
        lock.check()
        with pytest.raises(UsageError, match=f"locked by process {os.getpid()} on"):
            run_lock(tmp_path, silent).__enter__()
        lock.check()
    assert claims(tmp_path) == []
    with run_lock(tmp_path, silent):
        pass


def test_a_killed_process_on_this_machine_is_known_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from accelerando.runs.run_lock import run_lock\n"
        "with run_lock(Path(sys.argv[1]), print): print('has it', flush=True); time.sleep(60)"
    )
    process = begin([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "has it\n"
        with pytest.raises(UsageError, match=f"process {process.pid}"):
            run_lock(tmp_path, silent).__enter__()
        process.kill()
        time.sleep(0.2)  # dead, and not yet asked after: a zombie has its number still
        with run_lock(tmp_path, pytest.fail):
            assert claims(tmp_path) == [".claim-2"]


def test_a_process_number_that_was_given_again_is_another_process(tmp_path: Path) -> None:
    plant(tmp_path, replace(Owner.current(), started="1"))
    with run_lock(tmp_path, pytest.fail):
        pass


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock_module, "TIMEOUT_SECONDS", 1.0)


ELSEWHERE = Owner(host="node7", machine="another boot", pid=1, started="1")


@pytest.mark.usefixtures("impatient")
def test_an_owner_elsewhere_is_waited_for(tmp_path: Path) -> None:
    words: list[str] = []
    plant(tmp_path, ELSEWHERE)
    begin = time.monotonic()
    with run_lock(tmp_path, words.append):
        assert time.monotonic() - begin >= 1.0
    assert words == [f"{tmp_path} was locked by process 1 on node7: waiting for its heartbeat"]


@pytest.mark.usefixtures("impatient")
def test_an_owner_elsewhere_that_lives_keeps_it(tmp_path: Path) -> None:
    """Its clock may be wrong by hours: that the time changes is what counts."""
    path = plant(tmp_path, ELSEWHERE)
    context = forkserver()
    over, begun = context.Event(), context.Event()
    alive = context.Process(target=keep_touching, args=(path, over, begun))
    alive.start()
    try:
        assert begun.wait(60)
        with pytest.raises(UsageError, match="locked by process 1 on node7"):
            run_lock(tmp_path, silent).__enter__()
    finally:
        over.set()
        alive.join()


def keep_touching(path: Path, over: Any, begun: Any) -> None:
    count = 0
    begun.set()
    while not over.wait(0.05):
        count += 1
        os.utime(path, (count, count))


@pytest.mark.usefixtures("impatient")
def test_a_claim_that_cannot_be_read_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / ".claim-4").write_text('{"host": "no')
    with run_lock(tmp_path, silent):
        assert claims(tmp_path) == [".claim-5"]


def test_a_requeued_job_supersedes_its_earlier_self(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = replace(ELSEWHERE, job="77.0.0")
    plant(tmp_path, earlier)
    for name, value in (("JOB_ID", "77"), ("STEP_ID", "0"), ("PROCID", "0")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert not earlier.is_dead()  # it was not requeued: another step of the same job, perhaps
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert earlier.is_dead()
    with run_lock(tmp_path, pytest.fail):
        found = current_lock(tmp_path)
        assert found is not None
        assert str(found.owner).endswith("(SLURM job 77.0.0)")


def test_who_was_superseded_writes_nothing_more(tmp_path: Path) -> None:
    with run_lock(tmp_path, silent) as lock:
        plant(tmp_path, ELSEWHERE, number=2)
        (tmp_path / ".claim-1").unlink()
        with pytest.raises(UsageError, match="was taken over by process 1 on node7; this process"):
            lock.check()
    assert claims(tmp_path) == [".claim-2"]


def test_who_stalled_takes_nothing_from_the_living(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it stalls, another follows the dead owner, and leaves; numbers begin anew."""
    plant(tmp_path, replace(Owner.current(), pid=DEAD_PID), number=3)
    living, wait_until_dead = ExitStack(), lock_module._wait_until_dead

    def stalls(*arguments: Any) -> bool:
        monkeypatch.setattr(lock_module, "_wait_until_dead", wait_until_dead)
        judged = wait_until_dead(*arguments)
        with run_lock(tmp_path, silent):
            pass
        living.callback(living.enter_context(run_lock(tmp_path, silent)).check)
        return judged

    monkeypatch.setattr(lock_module, "_wait_until_dead", stalls)
    with living:
        with pytest.raises(UsageError, match="is locked by"):
            run_lock(tmp_path, silent).__enter__()
        assert claims(tmp_path) == [".claim-1"]


def test_a_full_disk_leaves_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ = Path.open

    def without_room(path: Path, mode: str = "r", *how: Any, **more: Any) -> Any:
        file = open_(path, mode, *how, **more)
        if mode != "xb":
            return file
        file.close()
        return open_(Path("/dev/full"), "wb", **more)

    with monkeypatch.context() as patched, pytest.raises(OSError, match=r"No space.*\.claim-1"):
        patched.setattr(Path, "open", without_room)
        run_lock(tmp_path, silent).__enter__()
    assert claims(tmp_path) == []


def test_numbers_that_begin_anew_are_told_apart(tmp_path: Path) -> None:
    """A sleeping owner, then others that came and went: the same number is another lock."""
    with run_lock(tmp_path, silent) as lock:
        (tmp_path / ".claim-1").unlink()
        with run_lock(tmp_path, silent) as other:
            assert claims(tmp_path) == [".claim-1"]
            other.check()
            with pytest.raises(UsageError, match="was taken over"):
                lock.check()
        plant(tmp_path, ELSEWHERE)
    assert claims(tmp_path) == [".claim-1"]  # another's is left alone


@pytest.mark.usefixtures("impatient")
def test_a_claim_beats(tmp_path: Path) -> None:
    with run_lock(tmp_path, silent):
        found = current_lock(tmp_path)
        assert found is not None
        first = found.last_heartbeat()
        time.sleep(0.3)
        assert found.last_heartbeat() != first
