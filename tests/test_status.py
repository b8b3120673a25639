"""``accelerando status`` and ``accelerando prune`` on runs in every state."""

from __future__ import annotations

import json
import os
import pty
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from accelerando.commands import main
from accelerando.commands.status import format_runs
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder
from accelerando.runs.listing import list_runs
from accelerando.runs.run_lock import Owner
from helpers import REMOTE_OWNER, SHORT, make_run, make_runs, start_process, train, write_lock

Settings = Callable[..., RunSettings]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a run of each kind."""
    make_runs(tmp_path)
    return tmp_path


def test_table_for_pipes_has_one_line_per_run(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["status", str(runs)])
    text = capsys.readouterr().out
    assert "8 runs: 2 running, 1 finished, 1 failed, 3 lost, 1 unreadable" in text
    rows = [line.split() for line in text.splitlines()[2:] if "/" in line]
    cells = {row[1].rpartition("/")[2]: row[2:] for row in rows}
    assert cells["a-finished"] == ["0/10", "0.00123", "1:01:40"]
    assert cells["c-alive"] == ["5/10", "180", "0:01:40", "0:01:40", "on", "node7"]
    assert cells["b-failed"][-3:] == ["ValueError:", "bad", "value"]


def test_unreadable_files_do_not_hide_other_runs(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read_text = Path.read_text

    def deny(path: Path, *arguments: Any, **keywords: Any) -> str:
        if "a-finished" in path.parts or (path.name, path.parent.name) == (".claim-1", "c-alive"):
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "read_text", deny)
    main(["status", str(runs)])
    text = capsys.readouterr().out
    assert "8 runs: 1 running, 1 failed, 3 lost, 3 unreadable" in text
    assert text.count("Permission denied") == 2


def test_json_output_has_one_object_per_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", str(runs), "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    alive = rows[2]
    assert (alive["status"], alive["epochs_per_hour"], alive["seconds_left"]) == (
        "running", 180.0, 100.0,
    )  # fmt: skip
    assert rows[-1]["status"] == "unreadable"


def test_missing_folder_is_an_error_and_empty_folder_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path / "none")])
    assert "is not a folder: pass one that contains runs" in capsys.readouterr().err
    main(["status", str(tmp_path)])
    assert "0 runs: none" in capsys.readouterr().out


def test_watch_refreshes_until_ctrl_c(runs: Path) -> None:
    main_end, terminal = pty.openpty()
    process = start_process(
        [sys.executable, "-m", "accelerando.commands", "status", str(runs), "--watch",
         "--every", "0.1"],
        stdout=terminal, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    output = b""
    while output.count(b"8 runs") < 3:
        output += os.read(main_end, 10_000)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    os.close(main_end)


def test_active_and_failed_runs_are_shown_first_if_not_all_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        make_run(tmp_path, f"a-{number:02}", "finished")
    make_run(tmp_path, "b", "interrupted")
    make_run(tmp_path, "c", "failed", message="ValueError: bad value,\n" + "and so on, " * 30)
    write_lock(make_run(tmp_path, "d", "running").path, Owner.current())
    runs, console = list_runs(tmp_path), Console(width=100)
    for height, names, footer in (
        (10, ["d", "c", "b", "a-00", "a-01", "a-02", "a-03"], ["26 more not shown"]),
        (35, [run.path.name for run in runs], []),
    ):
        console.print(format_runs(runs, tmp_path, console.width, height))
        heading, _, *rows = capsys.readouterr().out.splitlines()
        assert heading == "33 runs: 1 running, 30 finished, 1 interrupted, 1 failed"
        assert [line.split()[1].rpartition("/")[2] for line in rows[: len(names)]] == names
        assert rows[len(names) :] == footer
    console.print(format_runs(runs, tmp_path, console.width, 1))
    assert "33 more not shown" in capsys.readouterr().out


@pytest.mark.parametrize("height", [None, 20])
def test_narrow_terminals_show_complete_numbers_and_ends_of_names(
    height: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {"progress": 5.0, "epoch": 5, "seconds": 9000.0, "full_gradient_norm": 0.00123}
    run = make_run(tmp_path, "a-very-long-name-of-a-run-seed0-3f2a9c1b", "running", **fields)
    write_lock(run.path, REMOTE_OWNER)
    Console(width=80).print(format_runs(list_runs(tmp_path), tmp_path, 80, height))
    text = capsys.readouterr().out
    assert all(value in text for value in ("5/10", "0.00123", "2:30:00", "3f2a9c1b", "node7"))
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("interval", ["-1", "0", "nan", "inf"])
def test_invalid_refresh_interval_is_an_error(
    interval: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path), "--watch", "--every", interval])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --every must be ")


def test_prune_removes_checkpoints_of_completed_runs_only(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(*SHORT, "checkpoint.seconds=0")
    train(config)
    folder, root = RunFolder(run_folder(config)), Path(config.root)
    incomplete = make_run(root, "incomplete", "interrupted")
    for path in (incomplete.checkpoint, incomplete.previous_checkpoint):
        path.write_bytes(b"needed to resume")
    record = folder.record.read_bytes()
    main(["prune", str(root), "--dry-run"])
    assert "1 checkpoint of completed runs would be removed" in capsys.readouterr().out
    assert folder.previous_checkpoint.exists()
    main(["prune", str(root)])
    assert not folder.previous_checkpoint.exists()
    assert folder.checkpoint.exists()
    main(["prune", str(root), "--all"])
    assert not folder.checkpoint.exists()
    assert folder.record.read_bytes() == record
    assert incomplete.checkpoint.exists()
    assert incomplete.previous_checkpoint.exists()
    assert train(config).status == "finished"  # skipped, with or without its weights
