"""The cache of decoded data, shared by real processes: which start at once, or are killed."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelerando.data import cache, storage
from accelerando.data.cache import cached
from accelerando.data.source import Decoded
from test_cache import flip, forbidden, kept, same, small, temporary


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCELERANDO_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


FORK = multiprocessing.get_context("fork")


def in_processes(n: int, work: Callable[[], Any]) -> list[Any]:
    """What ``work`` returns in each of ``n`` processes that start it at the same moment."""
    barrier, results = FORK.Barrier(n), FORK.SimpleQueue()

    def one() -> None:
        barrier.wait(60)
        results.put(work())

    processes = [FORK.Process(target=one) for _ in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [results.get() for _ in range(n)]


def test_on_a_full_disk_the_data_are_used_from_memory(
    data_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        return same(cached("x", ["1"], small), small())

    assert in_processes(1, work) == [True]
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "cannot keep the decoded data" in error
    assert kept(data_folder) == temporary(data_folder) == []


@pytest.mark.parametrize("locks", [True, False])
def test_many_processes_on_an_empty_cache(
    locks: bool,
    data_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    if not locks:
        monkeypatch.setattr(fcntl, "flock", refuse)
    decodings = FORK.Value("i", 0)

    def decode() -> Decoded:
        with decodings.get_lock():
            decodings.value += 1
        time.sleep(0.2)
        return small()

    def work() -> tuple[bool, bool]:
        data = cached("x", ["1"], decode)
        return same(data, small()), isinstance(data.train_images.base, np.memmap)

    assert in_processes(8, work) == [(True, True)] * 8
    assert decodings.value == 1 if locks else decodings.value > 1
    assert len(kept(data_folder)) == 1
    assert temporary(data_folder) == []
    assert capfd.readouterr().err == ""


def test_many_processes_on_a_damaged_cache(data_folder: Path) -> None:
    cached("x", ["1"], small)
    flip(kept(data_folder)[0] / "train_images.npy")
    assert in_processes(8, lambda: same(cached("x", ["1"], small), small())) == [True] * 8
    assert len(kept(data_folder)) == 1
    assert same(cached("x", ["1"], forbidden), small())


def test_what_killed_processes_leave_goes_after_a_day(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cache, "sync", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        process = FORK.Process(target=lambda: cached("x", ["1"], small))
        process.start()
        process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (left,) = temporary(data_folder)
    assert same(cached("x", ["1"], small), small())
    assert temporary(data_folder) == [left]  # it may be another host's, still at work
    a_day_ago = time.time() - storage.DAY - 60
    os.utime(left, (a_day_ago, a_day_ago))
    with (left / "lock").open("a") as lock:  # as a live process of this host holds it
        fcntl.flock(lock, fcntl.LOCK_EX)
        cached("x", ["1"], forbidden)
        assert temporary(data_folder) == [left]
    cached("x", ["1"], forbidden)
    assert temporary(data_folder) == []
