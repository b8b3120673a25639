"""The record and the state of a run: complete files, also after a full disk or a power cut."""

from __future__ import annotations

import json
import math
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
from accelerando.runs.record import JsonLines, Recorder, read_rows
from helpers import REMOTE_OWNER, SHORT, interrupt_at_step, train, write_lock

Settings = Callable[..., RunSettings]
ROW = {"epoch": 0, "step": 1, "seconds": 0.0}


def new_state() -> State:
    return State(Status.RUNNING, "id", "digits", "mlp", "cosine", 0, epochs=1, steps=2)


def test_full_disk_leaves_only_complete_rows(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    lines = JsonLines(path)
    lines.append({"step": 1})
    content, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 5, limits[1]))
    try:
        with pytest.raises(OSError, match=r"record\.jsonl"):
            lines.append({"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == content
    lines.append({"step": 2})
    assert [row["step"] for row in lines.rows()] == [1, 2]
    lines.close()


def test_nan_and_infinity_are_recorded_as_null(tmp_path: Path) -> None:
    with closing(JsonLines(tmp_path / "record.jsonl")) as lines:
        row = {"loss": math.nan, "per_layer": {"weight": math.inf}, "step": 1}
        assert lines.append(row) == {"loss": None, "per_layer": {"weight": None}, "step": 1}
        assert lines.rows() == [lines.append(row)]


def test_incomplete_last_row_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text('{"step": 1}\n{"st')
    assert read_rows(path) == [{"step": 1}]


def test_resume_discards_rows_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    with closing(JsonLines(path)) as lines:
        lines.append({"step": 1})
        length = lines.sync()
        lines.append({"step": 2})
    with closing(JsonLines(path, length)) as lines:
        assert lines.rows() == [{"step": 1}]
    with pytest.raises(UsageError, match=f"has {length} bytes, fewer than the 1000 at its"):
        JsonLines(path, 1000)


@pytest.mark.parametrize("tracking", ["disabled", "offline"])
@pytest.mark.parametrize("name", ["record.jsonl", "steps.jsonl"])
def test_corrupt_record_is_reported_and_left_unchanged(
    name: str, tracking: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*SHORT, f"tracking={tracking}")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        interrupt_at_step(30, patched)
        train(config)
    path = run_folder(config) / name
    content = path.read_bytes()
    corrupt = content.replace(b'"step"', b'"st\xffep', 1)
    path.write_bytes(corrupt)
    with pytest.raises(UsageError, match=rf"{name} is corrupt \(.*\): repair it, or remove"):
        train(config)
    assert path.read_bytes() == corrupt
    path.write_bytes(content)
    assert train(config).status == "finished"


def test_no_row_is_added_after_a_takeover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    monkeypatch.setattr(record, "STATE_SECONDS", 0)
    with folder.locked(print) as lock, closing(Recorder(folder, lock, new_state())) as recorder:
        recorder.log_measurement(ROW)
        write_lock(tmp_path, REMOTE_OWNER, 2)
        (tmp_path / ".claim-1").unlink()
        for log in (recorder.log_measurement, recorder.log_training):
            with pytest.raises(UsageError, match="was taken over"):
                log(ROW)
        (tmp_path / ".claim-2").unlink()
    assert len(folder.record.read_bytes().splitlines()) == 1
    assert folder.steps.read_bytes() == b""


def test_state_keeps_the_minimum_of_finite_norms(tmp_path: Path) -> None:
    folder, state = RunFolder(tmp_path), new_state()
    with folder.locked(print) as lock, closing(Recorder(folder, lock, state)) as recorder:
        for norm in (3.0, 2.0, math.nan, 4.0):
            recorder.log_measurement({**ROW, "full_gradient_norm": norm})
        recorder.log_measurement({**ROW, "subset_gradient_norm": 1.0})
    assert state.full_gradient_norm == 2.0


def test_state_file_has_plain_values_and_may_have_unknown_fields(tmp_path: Path) -> None:
    folder, state = RunFolder(tmp_path), new_state()
    state.write(folder.state)
    content = json.loads(folder.state.read_text())
    assert (content["status"], content["run"]) == ("running", "id")
    folder.state.write_text(json.dumps(content | {"field": "of another version"}))
    assert folder.read_state() == state


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_data_are_synced_before_the_files_that_refer_to_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def log_fsync(descriptor: int) -> None:
        fsync(descriptor)
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def log_rename(path: Path, target: Any) -> Path:
        events.append(f"rename to {Path(target).name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", log_fsync)
    monkeypatch.setattr(Path, "replace", log_rename)
    config = settings(*SHORT, "checkpoint.seconds=1000")
    train(config)
    folder = run_folder(config)
    renamed = events.index("rename to checkpoint.pt")
    temporary = f".checkpoint.pt.{os.getpid()}.tmp"
    assert events[renamed - 3 : renamed] == ["record.jsonl", "steps.jsonl", temporary]
    assert events[renamed + 1] == folder.name
    temporary = f".state.json.{os.getpid()}.tmp"
    assert events[-3:] == [temporary, "rename to state.json", folder.name]


def test_state_forgets_the_rows_of_wandb_before_new_ones_are_sent(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a resume after a crash would take the number of an earlier start for correct."""
    config = settings(*SHORT, "tracking=offline")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        interrupt_at_step(30, patched)
        train(config)
    write, writes = State.write, []

    def log_write(self: State, path: Path, *, sync: bool = False) -> None:
        writes.append(("rows" in self.wandb, sync))
        write(self, path, sync=sync)

    monkeypatch.setattr(State, "write", log_write)
    train(config)
    has_rows = [rows for rows, _ in writes]
    assert has_rows[0]
    assert writes[has_rows.index(False)] == (False, True)
