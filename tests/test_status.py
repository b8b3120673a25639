"""``accelerando status`` and ``accelerando prune``, on runs in every state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from accelerando.commands import main
from accelerando.commands.status import listing
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.listing import list_runs
from accelerando.runs.run_lock import Owner
from conftest import begin
from test_run import SHORT, train
from test_run_lock import DEAD_PID, ELSEWHERE, plant

Settings = Callable[..., RunSettings]


def made(root: Path, name: str, status: str, **more: object) -> RunFolder:
    """A run as its files would show it."""
    folder = RunFolder(root / "digits-mlp" / "cosine" / name)
    folder.path.mkdir(parents=True)
    state = State(Status(status), name, "digits", "mlp", "cosine", 0, epochs=10, steps=100)
    replace(state, environment={"host": "node7"}, **more).write(folder.state)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    half = {"progress": 5.0, "epoch": 5, "seconds": 100.0}
    made(tmp_path, "a-finished", "finished", full_gradient_norm=0.00123, seconds=3700.0)
    made(tmp_path, "b-failed", "failed", message="ValueError: it is so")
    plant(made(tmp_path, "c-alive", "running", **half).path, Owner.current())
    plant(
        made(tmp_path, "d-killed", "running", **half).path, replace(Owner.current(), pid=DEAD_PID)
    )
    plant(made(tmp_path, "e-elsewhere", "running", **half).path, ELSEWHERE)
    old = plant(made(tmp_path, "f-silent", "running", **half).path, ELSEWHERE)
    os.utime(old, (time.time() - 3600,) * 2)
    made(tmp_path, "g-unclaimed", "running")
    made(tmp_path, "h-damaged", "running").state.write_text("{")
    return tmp_path


def test_every_state_is_told(runs: Path) -> None:
    found = {run.path.name: run.status for run in list_runs(runs)}
    assert found == {
        "a-finished": "finished",
        "b-failed": "failed",
        "c-alive": "running",
        "d-killed": "lost",
        "e-elsewhere": "running",
        "f-silent": "lost",
        "g-unclaimed": "lost",
        "h-damaged": "unreadable",
    }


def test_the_list(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", str(runs)])
    text = capsys.readouterr().out
    assert "8 runs: 2 running, 1 finished, 1 failed, 3 lost, 1 unreadable" in text
    rows = [line.split() for line in text.splitlines()[2:] if "/" in line]
    lines = {row[1].rpartition("/")[2]: row for row in rows}
    assert lines["a-finished"][2:] == ["0/10", "0.00123", "1:01:40"]
    assert lines["c-alive"][2:] == ["5/10", "180", "0:01:40", "0:01:40", "on", "node7"]
    assert lines["b-failed"][-4:] == ["ValueError:", "it", "is", "so"]


def test_files_that_cannot_be_read_hide_no_other_run(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read_text = Path.read_text

    def refuses(path: Path, *how: Any, **more: Any) -> str:
        if "a-finished" in path.parts or (path.name, path.parent.name) == (".claim-1", "c-alive"):
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *how, **more)

    monkeypatch.setattr(Path, "read_text", refuses)
    main(["status", str(runs)])
    text = capsys.readouterr().out
    assert "8 runs: 1 running, 1 failed, 3 lost, 3 unreadable" in text
    assert text.count("Permission denied") == 2


def test_the_list_for_machines(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", str(runs), "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    alive = rows[2]
    assert (alive["status"], alive["epochs_per_hour"], alive["seconds_left"]) == (
        "running", 180.0, 100.0,
    )  # fmt: skip
    assert rows[-1]["status"] == "unreadable"


def test_a_folder_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path / "none")])
    assert "is not a folder: pass one that contains runs" in capsys.readouterr().err
    main(["status", str(tmp_path)])
    assert "0 runs: none" in capsys.readouterr().out


def test_the_list_is_kept_alive(runs: Path) -> None:
    process = begin(
        [sys.executable, "-m", "accelerando.commands", "status", str(runs), "--watch",
         "--every", "0.1"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(2)
    process.send_signal(2)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "8 runs" in output


def test_where_not_all_fit_those_come_first_that_live_or_went_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        made(tmp_path, f"a-{number:02}", "finished")
    made(tmp_path, "b", "interrupted")
    made(tmp_path, "c", "failed", message="ValueError: it is so,\n" + "and so on, " * 30)
    plant(made(tmp_path, "d", "running").path, Owner.current())
    console = Console(width=100)
    for room, names, left_out in (
        (10, ["d", "c", "b", "a-00", "a-01", "a-02", "a-03"], ["26 more are not shown"]),
        (35, [run.path.name for run in list_runs(tmp_path)], []),
    ):
        console.print(listing(list_runs(tmp_path), tmp_path, room=room))
        head, _, *rows = capsys.readouterr().out.splitlines()
        assert head == "33 runs: 1 running, 30 finished, 1 interrupted, 1 failed"
        assert [line.split()[1].rpartition("/")[2] for line in rows[: len(names)]] == names
        assert rows[len(names) :] == left_out
    console.print(listing(list_runs(tmp_path), tmp_path, room=1))
    assert "33 more are not shown" in capsys.readouterr().out


@pytest.mark.parametrize("every", ["-1", "0", "nan", "inf"])
def test_a_time_between_looks_that_is_none(
    every: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path), "--watch", "--every", every])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --every must be ")


def test_prune_removes_checkpoints_of_ended_runs_alone(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(*SHORT, "checkpoint.seconds=0")
    train(config)
    folder, root = RunFolder(run_folder(config)), Path(config.root)
    other = made(root, "going-on", "interrupted")
    for path in (other.checkpoint, other.previous_checkpoint):
        path.write_bytes(b"precious")
    record = folder.record.read_bytes()
    main(["prune", str(root), "--dry-run"])
    assert "1 checkpoints of ended runs would be removed" in capsys.readouterr().out
    assert folder.previous_checkpoint.exists()
    main(["prune", str(root)])
    assert not folder.previous_checkpoint.exists()
    assert folder.checkpoint.exists()
    main(["prune", str(root), "--all"])
    assert not folder.checkpoint.exists()
    assert folder.record.read_bytes() == record
    assert other.checkpoint.exists()
    assert other.previous_checkpoint.exists()
    assert train(config).status == "finished"  # it is skipped, with or without its weights
