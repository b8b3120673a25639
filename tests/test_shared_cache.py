"""The cache of decoded data, shared by processes that start at the same time or are killed."""

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
from accelerando.data.cache import load_cached
from accelerando.data.source import LabelledImages
from small_data import (
    cache_entries,
    equal,
    flip_bit,
    must_not_decode,
    random_images,
    temporary_folders,
)

pytestmark = pytest.mark.usefixtures("data_folder")
FORK = multiprocessing.get_context("fork")


def in_processes(n: int, work: Callable[[], Any]) -> list[Any]:
    """Return the results of ``work`` in ``n`` processes that call it at the same time."""
    barrier, results = FORK.Barrier(n), FORK.SimpleQueue()

    def call() -> None:
        barrier.wait(60)
        results.put(work())

    processes = [FORK.Process(target=call) for _ in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [results.get() for _ in range(n)]


def test_on_a_full_disk_data_are_decoded_into_memory(
    data_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        return equal(load_cached("x", ["1"], random_images), random_images())

    assert in_processes(1, work) == [True]
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "cannot cache decoded data" in error
    assert cache_entries(data_folder) == temporary_folders(data_folder) == []


@pytest.mark.parametrize("locks", [True, False])
def test_concurrent_processes_on_an_empty_cache(
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

    def decode() -> LabelledImages:
        with decodings.get_lock():
            decodings.value += 1
        time.sleep(0.2)
        return random_images()

    def work() -> tuple[bool, bool]:
        data = load_cached("x", ["1"], decode)
        return equal(data, random_images()), isinstance(data.train_images.base, np.memmap)

    assert in_processes(8, work) == [(True, True)] * 8
    assert decodings.value == 1 if locks else decodings.value > 1
    assert len(cache_entries(data_folder)) == 1
    assert temporary_folders(data_folder) == []
    assert capfd.readouterr().err == ""


def test_concurrent_processes_on_a_corrupt_cache(data_folder: Path) -> None:
    load_cached("x", ["1"], random_images)
    flip_bit(cache_entries(data_folder)[0] / "train_images.npy")

    def work() -> bool:
        return equal(load_cached("x", ["1"], random_images), random_images())

    assert in_processes(8, work) == [True] * 8
    assert len(cache_entries(data_folder)) == 1
    assert equal(load_cached("x", ["1"], must_not_decode), random_images())


def test_leftovers_of_killed_processes_are_removed_after_a_day(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cache, "fsync_path", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        process = FORK.Process(target=lambda: load_cached("x", ["1"], random_images))
        process.start()
        process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (leftover,) = temporary_folders(data_folder)
    assert equal(load_cached("x", ["1"], random_images), random_images())
    assert temporary_folders(data_folder) == [leftover]  # another host may still be using it
    a_day_ago = time.time() - storage.LEFTOVER_AGE - 60
    os.utime(leftover, (a_day_ago, a_day_ago))
    with (leftover / "lock").open("a") as lock:  # as a running process of this host would
        fcntl.flock(lock, fcntl.LOCK_EX)
        load_cached("x", ["1"], must_not_decode)
        assert temporary_folders(data_folder) == [leftover]
    load_cached("x", ["1"], must_not_decode)
    assert temporary_folders(data_folder) == []
