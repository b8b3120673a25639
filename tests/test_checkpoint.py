"""Corrupt checkpoints are reported and quarantined, and the previous one is used."""

from __future__ import annotations

import io
import pickle
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.launch.planning import unfinished_jobs
from accelerando.launch.pool import Job
from accelerando.runs.folder import RunFolder
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.loop import Loop
from accelerando.training.run import run
from helpers import REMOTE_OWNER, SHORT, identical, train, write_lock

Settings = Callable[..., RunSettings]
Reference = Callable[..., RunFolder]
CPU = torch.device("cpu")
MORE = (*SHORT, "optimizer.momentum=0.9", "checkpoint.seconds=1000", "checkpoint.epochs=1")


@pytest.fixture
def interrupted(settings: Settings) -> RunSettings:
    """A run interrupted in its last epoch, with two checkpoints."""
    config = settings(*MORE)
    advance = Loop._advance

    def stops(self: Loop) -> None:
        if self._position.step == 35:
            raise Interrupted(signal.SIGTERM)
        advance(self)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(Loop, "_advance", stops)
        train(config)
    folder = RunFolder(run_folder(config))
    assert {path.name for path in folder.path.glob("*.pt")} == {
        "checkpoint.pt",
        "checkpoint.previous.pt",
    }
    return config


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """Flip one bit of one weight."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    place = largest.header_offset + largest.file_size // 2
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def empty(_: bytes) -> bytes:
    return b""


def foreign(_: bytes) -> bytes:
    file = io.BytesIO()
    torch.save({"another": "file"}, file)
    return file.getvalue()


@pytest.mark.parametrize("damage", [cut, flipped, empty, foreign])
def test_the_previous_checkpoint_is_used(
    damage: Callable[[bytes], bytes], interrupted: RunSettings, reference: Reference
) -> None:
    folder = RunFolder(run_folder(interrupted))
    damaged = damage(folder.checkpoint.read_bytes())
    folder.checkpoint.write_bytes(damaged)
    console = Console(record=True, file=io.StringIO(), width=500)
    state = run(interrupted, [], console)
    assert state is not None
    assert state.status == "finished"
    text = console.export_text()
    assert "checkpoint.pt is corrupt" in text
    assert (folder.path / "checkpoint.damaged.pt").read_bytes() == damaged
    assert identical(folder, reference(*MORE))


def test_two_corrupt_checkpoints_are_an_error_and_nothing_is_overwritten(
    interrupted: RunSettings,
) -> None:
    folder = RunFolder(run_folder(interrupted))
    for path in (folder.checkpoint, folder.previous_checkpoint):
        path.write_bytes(cut(path.read_bytes()))
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(UsageError, match=r"all checkpoints in .* are corrupt: checkpoint\.pt "):
        train(interrupted)
    assert before == {path: path.read_bytes() for path in folder.path.iterdir()}


def test_a_corrupt_state_is_quarantined(interrupted: RunSettings, reference: Reference) -> None:
    folder = RunFolder(run_folder(interrupted))
    folder.state.write_bytes(b"")  # as some file systems leave it after a power cut
    jobs = [Job("job", folder.path, print)]
    assert unfinished_jobs(jobs, Console(quiet=True)) == jobs  # nor is a sweep refused
    console = Console(record=True, file=io.StringIO(), width=500)
    state = run(interrupted, [], console)
    assert state is not None
    assert state.status == "finished"
    assert "renamed to state.damaged.json; resuming from the checkpoint" in console.export_text()
    assert (folder.path / "state.damaged.json").read_bytes() == b""
    assert identical(folder, reference(*MORE))


def test_a_crash_between_the_two_renames_leaves_the_previous_checkpoint(
    interrupted: RunSettings,
) -> None:
    folder = RunFolder(run_folder(interrupted))
    folder.checkpoint.replace(folder.previous_checkpoint)
    found = Checkpoint.load(folder, CPU, print)
    assert found is not None
    assert found.position.step == 35


def test_a_checkpoint_executes_no_code(interrupted: RunSettings, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    folder = RunFolder(run_folder(interrupted))
    torch.save({"position": Evil()}, folder.checkpoint)
    folder.previous_checkpoint.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UsageError, match="are corrupt"):
        train(interrupted)
    assert not (tmp_path / "executed").exists()


def test_a_process_that_lost_its_lock_while_saving_replaces_nothing(
    interrupted: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, write = RunFolder(run_folder(interrupted)), Checkpoint.write
    found = Checkpoint.load(folder, CPU, print)
    assert found is not None
    before = {path: path.read_bytes() for path in folder.path.iterdir()}

    def slowly(self: Checkpoint, file: Any) -> None:
        write(self, file)
        write_lock(folder.path, REMOTE_OWNER, 2)
        (folder.path / ".claim-1").unlink()

    monkeypatch.setattr(Checkpoint, "write", slowly)
    with folder.locked(print) as lock:
        with pytest.raises(UsageError, match="was taken over"):
            found.save(folder, lock)
        (folder.path / ".claim-2").unlink()
    assert before == {path: path.read_bytes() for path in folder.path.iterdir()}
