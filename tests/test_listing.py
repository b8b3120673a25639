"""The status of runs, from their files."""

from __future__ import annotations

from pathlib import Path

from accelerando.runs.folder import Status
from accelerando.runs.listing import list_runs
from helpers import make_run, make_runs


def test_status_of_every_kind_of_run(tmp_path: Path) -> None:
    make_runs(tmp_path)
    assert {run.path.name: run.status for run in list_runs(tmp_path)} == {
        "a-finished": "finished",
        "b-failed": "failed",
        "c-alive": "running",
        "d-killed": "lost",
        "e-remote": "running",
        "f-stale": "lost",
        "g-unlocked": "lost",
        "h-corrupt": "unreadable",
    }


def test_state_of_an_unknown_status_is_unreadable(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "run", "finished")
    folder.state.write_text(folder.state.read_text().replace("finished", "perfect"))
    (run,) = list_runs(tmp_path)
    assert run.status == Status.UNREADABLE
