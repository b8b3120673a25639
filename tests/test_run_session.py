"""However a run ends, its files and its W&B run are closed and its state says how it ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import wandb_files
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.runs.folder import RunFolder
from accelerando.training.loop import Loop
from accelerando.training.run import run
from helpers import REMOTE_OWNER, SHORT, interrupt_at_step, train, wait_for, write_lock
from wandb_files import offline_files
from wandb_runs import OFFLINE

Settings = Callable[..., RunSettings]
Patch = Callable[[pytest.MonkeyPatch, Path], None]


def interrupted(patch: pytest.MonkeyPatch, _: Path) -> None:
    interrupt_at_step(30, patch)


def interrupted_twice(patch: pytest.MonkeyPatch, folder: Path) -> None:
    interrupted(patch, folder)

    def second_ctrl_c(_: object) -> bool:
        raise KeyboardInterrupt

    patch.setattr("accelerando.wandb_mirror.sweep_agent.stopped_by_sweep", second_ctrl_c)


def taken_over_after_the_checkpoint(patch: pytest.MonkeyPatch, folder: Path) -> None:
    interrupted(patch, folder)
    save = Loop._save

    def save_and_lose_the_lock(self: Loop) -> None:
        save(self)
        write_lock(folder, REMOTE_OWNER, 2)
        (folder / ".claim-1").unlink()

    patch.setattr(Loop, "_save", save_and_lose_the_lock)


def bug(patch: pytest.MonkeyPatch, _: Path) -> None:
    patch.setattr(Loop, "_advance", lambda _: 1 / 0)


ENDS: dict[str, tuple[Patch, type[BaseException], str]] = {
    "interrupted": (interrupted, Interrupted, "interrupted"),
    "interrupted twice": (interrupted_twice, KeyboardInterrupt, "interrupted"),
    "taken over": (taken_over_after_the_checkpoint, UsageError, "interrupted"),
    "a bug": (bug, ZeroDivisionError, "failed"),
}


@pytest.mark.parametrize(("patch", "error", "status"), ENDS.values(), ids=list(ENDS))
def test_files_and_wandb_run_are_closed(
    patch: Patch,
    error: type[BaseException],
    status: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = settings(*OFFLINE)
    folder = RunFolder(run_folder(config))
    with monkeypatch.context() as patched, pytest.raises(error):
        patch(patched, folder.path)
        run(config, [], Console())  # its messages are shown if the test fails
    (file,) = offline_files(folder)
    # another process writes it
    wait_for(lambda: "status" in wandb_files.summary(file))
    assert wandb_files.summary(file)["status"] == status
    assert open_files(folder.path) == []


@pytest.mark.parametrize("name", ["record.jsonl", "steps.jsonl"])
def test_files_are_closed_if_one_is_shorter_than_at_the_checkpoint(
    name: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*SHORT)
    folder = run_folder(config)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        interrupt_at_step(30, patched)
        train(config)
    os.truncate(folder / name, 10)
    with pytest.raises(UsageError, match=rf"{name} has 10 bytes"):
        train(config)
    assert open_files(folder) == []


def open_files(folder: Path) -> list[Path]:
    """Return the files in a folder that this process has open."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return [path.readlink() for path in links if path.readlink().is_relative_to(folder)]
