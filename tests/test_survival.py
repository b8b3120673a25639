"""Runs killed at any point resume with bitwise identical results."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from accelerando.budget import register
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import EXIT_INTERRUPTED, Interrupted
from accelerando.runs.folder import RunFolder
from accelerando.training.loop import Loop
from helpers import SHORT, forkserver, identical, train
from requirements import missing

Settings = Callable[..., RunSettings]
Reference = Callable[..., RunFolder]
CRASH_POINTS = {
    # the function in which the process is signalled, and the largest number of the call to draw
    "start-up": ("accelerando.training.run.prepare_task", 1),
    "locking": ("accelerando.runs.run_lock.RunLock._send_heartbeats", 1),
    "first state": ("accelerando.training.run_session.write_atomic", 1),
    "a step": ("accelerando.training.step.SgdStep.__call__", 41),
    "a batch-size change": ("accelerando.training.step.SgdStep.__call__", 24),
    "writing a row": ("accelerando.runs.record.JsonLines._write", 12),
    "measuring": ("accelerando.measure.full_gradient.chunk_gradient", 50),
    "evaluating": ("accelerando.training.measurement.evaluate", 4),
    "before a checkpoint": ("accelerando.training.checkpoint.Checkpoint.write", 30),
    "in the middle of a checkpoint": ("torch.serialization._save", 30),
    "between the names of a checkpoint": ("pathlib.Path.replace", 100),
    "the last state": ("accelerando.training.run_session.RunSession._update_state", 1),
}
CONFIG = (
    *SHORT,
    "optimizer.momentum=0.9",
    "measure.chunk=100",
    "checkpoint.seconds=0",
    "tracking.every=5",
)


def crashes() -> Iterator[Any]:
    """Each point twice, once with SIGKILL and once with SIGTERM, at calls drawn from a seed."""
    draw = random.Random(7)
    for number, (name, (target, most)) in enumerate([*CRASH_POINTS.items()] * 2):
        sent = (signal.SIGKILL, signal.SIGTERM)[(number + number // len(CRASH_POINTS)) % 2]
        call = 24 if name == "a batch-size change" else draw.randint(1, most)
        yield pytest.param(target, call, sent, id=f"{name}-{call}-{sent.name}")


@contextmanager
def signalled_at(target: str, call: int, number: signal.Signals, marker: Path) -> Iterator[None]:
    """Send this process a signal at the ``call``-th call of ``target``, after making ``marker``."""
    names = target.split(".")
    holder: Any = None
    for length in range(len(names) - 1, 0, -1):
        try:
            holder = __import__(".".join(names[:length]), fromlist=["_"])
        except ImportError:
            continue
        for name in names[length:-1]:
            holder = getattr(holder, name)
        break
    original, calls = getattr(holder, names[-1]), iter(range(1, 1_000_000))

    def send_signal(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            os.close(os.open(marker, os.O_CREAT))
            os.kill(os.getpid(), number)
        return original(*arguments, **options)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(holder, names[-1], send_signal)
        yield


def train_with_signal(
    config: RunSettings, target: str, call: int, number: signal.Signals, marker: Path
) -> None:
    """Entry point of the process that receives the signal."""
    from accelerando.training.run import run

    register()
    with signalled_at(target, call, number, marker):
        try:
            run(config, [], Console(quiet=True))
        except Interrupted:
            raise SystemExit(75) from None


@pytest.mark.parametrize(("target", "call", "number"), crashes())
def test_a_killed_run_resumes_bitwise_identically(
    target: str,
    call: int,
    number: signal.Signals,
    settings: Settings,
    reference: Reference,
    tmp_path: Path,
) -> None:
    config, marker = settings(*CONFIG), tmp_path / "sent"
    expected = reference(*CONFIG)
    process = forkserver().Process(
        target=train_with_signal, args=(config, target, call, number, marker)
    )
    process.start()
    process.join(120)
    assert marker.exists(), "the signal was not sent"
    # SIGTERM may come after the last step: then the run finishes
    allowed = (-number,) if number == signal.SIGKILL else (EXIT_INTERRUPTED, 0)
    assert process.exitcode in allowed
    assert train(config).status == "finished"
    resumed = RunFolder(run_folder(config))
    assert identical(resumed, expected)
    assert {p.name for p in resumed.path.iterdir()} == {p.name for p in expected.path.iterdir()}


def test_a_run_resumes_after_the_disk_was_full(
    settings: Settings, reference: Reference, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        missing("root", "mounting a file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    os_mount("mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk))
    try:
        config = settings(*CONFIG, f"root={disk}/runs", "optimizer.momentum=0")
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(100_000))
        with pytest.raises(OSError, match="No space left on device"):
            train(config)
        folder = RunFolder(run_folder(config))
        for path in (folder.record, folder.steps):
            assert not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
        ballast.unlink()
        os_mount("mount", "-o", "remount,size=10m", str(disk))
        assert train(config).status == "finished"
        assert identical(folder, reference(*CONFIG, "optimizer.momentum=0"))
    finally:
        os_mount("umount", "-l", str(disk))


def os_mount(*command: str) -> None:
    subprocess.run(command, check=True)


def test_removing_the_folder_stops_the_run(settings: Settings) -> None:
    config = settings(*CONFIG)
    original = Loop._measure

    def removes(self: Loop) -> None:
        original(self)
        if self._position.epoch == 1:
            shutil.rmtree(run_folder(config))

    with pytest.MonkeyPatch.context() as patched, pytest.raises(UsageError, match="was removed"):
        patched.setattr(Loop, "_measure", removes)
        train(config)
    assert not run_folder(config).exists()
    assert train(config).status == "finished"
