"""Rows and files that are whole, also where the disk is full or the power is cut."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.runs import record
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.record import JsonLines, Recorder
from helpers import REMOTE_OWNER, SHORT, interrupt_at_step, train, write_lock


def test_a_row_without_room_leaves_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    lines = JsonLines(path)
    lines.append({"step": 1})
    whole, before = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 5, before[1]))
    try:
        with pytest.raises(OSError, match=r"record\.jsonl"):
            lines.append({"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == whole
    lines.append({"step": 2})
    assert [row["step"] for row in lines.rows()] == [1, 2]
    lines.close()


@pytest.mark.parametrize("tracking", ["disabled", "offline"])
@pytest.mark.parametrize("name", ["record.jsonl", "steps.jsonl"])
def test_a_run_does_not_go_on_from_a_damaged_record(
    name: str, tracking: str, settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*SHORT, f"tracking={tracking}")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        interrupt_at_step(30, patched)
        train(config)
    path = run_folder(config) / name
    content = path.read_bytes()
    damaged = content.replace(b'"step"', b'"st\xffep', 1)
    path.write_bytes(damaged)
    with pytest.raises(
        UsageError, match=rf"{name} is corrupt \(.*\): repair it, or remove the run folder"
    ):
        train(config)
    assert path.read_bytes() == damaged
    path.write_bytes(content)
    assert train(config).status == "finished"


def test_who_was_taken_over_adds_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    state = State(Status.RUNNING, "id", "digits", "mlp", "cosine", 0, epochs=1, steps=2)
    monkeypatch.setattr(record, "STATE_SECONDS", 0)
    row = {"epoch": 0, "step": 1, "seconds": 0.0}
    with folder.locked(print) as lock, closing(Recorder(folder, lock, state)) as recorder:
        recorder.log_measurement(row)
        write_lock(tmp_path, REMOTE_OWNER, 2)
        (tmp_path / ".claim-1").unlink()
        for append in (recorder.log_measurement, recorder.log_training):
            with pytest.raises(UsageError, match="was taken over"):
                append(row)
        (tmp_path / ".claim-2").unlink()
    assert len(folder.record.read_bytes().splitlines()) == 1
    assert folder.steps.read_bytes() == b""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux for names")
def test_what_a_checkpoint_speaks_of_is_on_the_disk_before_its_name_is(
    settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(number: int) -> None:
        fsync(number)
        events.append(Path(f"/proc/self/fd/{number}").readlink().name)

    def named(path: Path, target: Any) -> Path:
        events.append(f"now {Path(target).name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", named)
    config = settings(*SHORT, "checkpoint.seconds=1000")
    train(config)
    folder = run_folder(config)
    end = events.index("now checkpoint.pt")
    content = f".checkpoint.pt.{os.getpid()}.tmp"
    assert events[end - 3 : end] == ["record.jsonl", "steps.jsonl", content]
    assert events[end + 1] == folder.name  # which holds the name
    last = f".state.json.{os.getpid()}.tmp"
    assert events[-3:] == [last, "now state.json", folder.name]


def test_that_nobody_knows_what_wandb_has_is_on_the_disk(
    settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*SHORT, "tracking=offline")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        interrupt_at_step(30, patched)
        train(config)
    write, written = State.write, []

    def watched(self: State, path: Path, *, sync: bool = False) -> None:
        written.append(("rows" in self.wandb, sync))
        write(self, path, sync=sync)

    monkeypatch.setattr(State, "write", watched)
    train(config)
    known = [rows for rows, _ in written]
    assert known[0]
    assert written[known.index(False)] == (False, True)
