"""Runs killed at all kinds of places: the same command gives what they would have given."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from accelerando.config import RunSettings, register
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.runs.folder import RunFolder
from helpers import SHORT, forkserver, identical, train
from requirements import missing

Settings = Callable[..., RunSettings]
WHERE = {
    # what is called when the process dies, and how often it is called before, at most
    "start-up": ("accelerando.training.run.prepare_task", 1),
    "claiming": ("accelerando.runs.run_lock.RunLock._send_heartbeats", 1),
    "first state": ("accelerando.training.run.write_atomic", 1),
    "a step": ("accelerando.training.step.SgdStep.__call__", 45),
    "a batch-size change": ("accelerando.training.step.SgdStep.__call__", 24),
    "writing a row": ("accelerando.runs.record.JsonLines._write", 12),
    "measuring": ("accelerando.measure.full_gradient._chunk_gradient", 50),
    "evaluating": ("accelerando.training.measurement.evaluate", 4),
    "before a checkpoint": ("accelerando.training.checkpoint.Checkpoint.write", 30),
    "in the middle of a checkpoint": ("torch.serialization._save", 30),
    "between the names of a checkpoint": ("pathlib.Path.replace", 100),
    "the last state": ("accelerando.training.run._write_last", 1),
}
CONFIG = (
    *SHORT,
    "optimizer.momentum=0.9",
    "measure.chunk=100",
    "checkpoint.seconds=0",
    "tracking.every=5",
)


def moments() -> Iterator[Any]:
    """Twenty-four of them: twice every place, with signals and counts drawn from a seed."""
    draw = random.Random(7)
    for number, (name, (target, most)) in enumerate([*WHERE.items()] * 2):
        kind = (signal.SIGKILL, signal.SIGTERM)[(number + number // len(WHERE)) % 2]
        call = 24 if name == "a batch-size change" else draw.randint(1, most)
        yield pytest.param(target, call, kind, id=f"{name}-{call}-{kind.name}")


@contextmanager
def dying_at(target: str, call: int, kind: signal.Signals) -> Iterator[None]:
    """Send the calling process a signal when ``target`` is called for the ``call``-th time."""
    names = target.split(".")
    holder: Any = None
    for past in range(len(names) - 1, 0, -1):
        try:
            holder = __import__(".".join(names[:past]), fromlist=["_"])
        except ImportError:
            continue
        for name in names[past:-1]:
            holder = getattr(holder, name)
        break
    original, count = getattr(holder, names[-1]), iter(range(1, 1_000_000))

    def dies(*arguments: Any, **more: Any) -> Any:
        if next(count) == call:
            os.kill(os.getpid(), kind)
        return original(*arguments, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(holder, names[-1], dies)
        yield


def doomed(config: RunSettings, target: str, call: int, kind: signal.Signals) -> None:
    """In a process of its own."""
    from accelerando.training.run import run

    register()
    with dying_at(target, call, kind):
        try:
            run(config, [], Console(quiet=True))
        except Interrupted:
            raise SystemExit(75) from None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.mark.parametrize(("target", "call", "kind"), moments())
def test_a_killed_run_is_continued_bit_for_bit(
    target: str, call: int, kind: signal.Signals, settings: Settings, whole: Path
) -> None:
    reference, config = settings(*CONFIG, f"root={whole}"), settings(*CONFIG)
    if not run_folder(reference).exists():
        train(reference)
    context = forkserver()
    process = context.Process(target=doomed, args=(config, target, call, kind))
    process.start()
    process.join(120)
    ended = process.exitcode
    # a signal that only asks may come too late, or before the run listens
    assert ended == (-kind if kind == signal.SIGKILL else ended)
    assert ended in (-kind, 75, 0)
    assert train(config).status == "finished"
    folders = [RunFolder(run_folder(each)) for each in (config, reference)]
    assert identical(*folders)
    left = {path.name for path in folders[0].path.iterdir()}
    assert left == {path.name for path in folders[1].path.iterdir()}


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(
    settings: Settings, tmp_path: Path
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
        reference = settings(*CONFIG, f"root={tmp_path}/whole", "optimizer.momentum=0")
        train(reference)
        assert identical(folder, RunFolder(run_folder(reference)))
    finally:
        os_mount("umount", "-l", str(disk))


def os_mount(*command: str) -> None:
    import subprocess

    subprocess.run(command, check=True)


def test_a_folder_that_is_removed_stops_the_run(settings: Settings) -> None:
    import shutil

    from accelerando.checks import UsageError
    from accelerando.training.loop import Loop

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
