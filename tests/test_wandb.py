"""The W&B mirror with the real client: its file, read back, holds the record's rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

import offline
from accelerando.config import RunSettings
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.runs.folder import RunFolder
from accelerando.training.run import run
from accelerando.wandb_mirror.client import resolve_mode
from helpers import ROOT, SHORT, after_epoch, forkserver, interrupt, train


def rows(folder: RunFolder) -> list[dict[str, Any]]:
    """All rows of the record, in the order in which they were made."""
    files = (folder.steps, folder.record)
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted(found, key=lambda row: (row["step"], "full_gradient_norm" in row))


def mirrored(folder: RunFolder) -> list[dict[str, Any]]:
    files = sorted(folder.path.glob("wandb/offline-run-*/*.wandb"))
    return [row for file in files for row in offline.history(file)]


def test_the_offline_file_holds_exactly_the_record(
    settings: Callable[..., RunSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = settings(*SHORT, "tracking=offline")
    state = train(config)
    folder = RunFolder(run_folder(config))
    assert mirrored(folder) == rows(folder)
    (file,) = folder.path.glob("wandb/offline-run-*/*.wandb")
    assert state.wandb["id"].startswith(f"{state.run}-")
    logged = offline.config(file)
    assert logged["hydra"] == OmegaConf.to_container(OmegaConf.load(folder.config), resolve=True)
    assert (logged["scheduler"], logged["seed"]) == ("warmup_increase", 0)
    (run,) = [r.run for r in offline.records(file) if r.HasField("run")]
    assert (run.run_id, run.run_group) == (state.wandb["id"], "warmup_increase")
    metrics = {r.metric.name: r.metric for r in offline.records(file) if r.HasField("metric")}
    assert metrics["train_loss"].step_metric == "step"
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_a_resumed_run_is_one_run_without_overlaps(
    settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*SHORT, "tracking=offline")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        after_epoch(2, interrupt, patched)
        train(config)
    train(config)
    folder = RunFolder(run_folder(config))
    files = sorted(folder.path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    assert len({r.run.run_id for f in files for r in offline.records(f) if r.HasField("run")}) == 1
    assert mirrored(folder) == rows(folder)
    assert [offline.summary(file)["status"] for file in files] == ["interrupted", "finished"]
    state = folder.read_state()
    assert state is not None
    assert offline.summary(files[1])["minimum_full_gradient_norm"] == state.full_gradient_norm


def killed(config: RunSettings) -> None:
    """In a process of its own: dies in the second epoch, with rows that W&B has not written."""
    from accelerando.config import register

    register()
    os.environ.pop("WANDB_SERVICE", None)  # W&B's process is its own, not that of the tests
    with pytest.MonkeyPatch.context() as patched:
        after_epoch(2, lambda: os.kill(os.getpid(), signal.SIGKILL), patched)
        train(config)


@pytest.mark.parametrize("earlier", ["offline", "disabled"])
def test_what_a_killed_run_left_out_is_completed(
    earlier: str, settings: Callable[..., RunSettings]
) -> None:
    common = (*SHORT, "checkpoint.seconds=0")
    process = forkserver().Process(target=killed, args=(settings(*common, f"tracking={earlier}"),))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    config = settings(*common, "tracking=offline")
    run(config, [], Console())  # what it says of W&B is shown where this fails
    folder = RunFolder(run_folder(config))
    assert mirrored(folder) == rows(folder)
    assert len(list(folder.path.glob("wandb/offline-run-*"))) == 1
    incomplete = list(folder.path.glob("wandb/incomplete-offline-run-*"))
    assert len(incomplete) == (earlier == "offline")


def test_what_goes_wrong_in_wandb_does_not_touch_the_run(
    settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb.sdk.wandb_run import Run

    config = settings(*SHORT, "tracking=offline")
    log, calls = Run.log, iter(range(100))

    def breaks(self: Run, row: dict[str, Any], **more: Any) -> None:
        if next(calls) == 3:
            raise ConnectionResetError("wandb-core is gone")
        log(self, row, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "log", breaks)
        state = train(config)
    assert state.status == "finished"
    assert "rows" not in state.wandb


def test_without_a_login_offline_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert resolve_mode("auto") == "offline"
    assert resolve_mode("online") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode("auto") == "disabled"


def test_a_run_does_not_use_the_wandb_process_of_who_started_it(
    settings: Callable[..., RunSettings], tmp_path: Path
) -> None:
    """A requeued job would find there that it is still at work."""
    config = settings(*SHORT, "tracking=offline")
    environment = os.environ | {"WANDB_SERVICE": f"3-{os.getpid()}-unix-{tmp_path}/nobody"}
    command = [sys.executable, str(ROOT / "train.py"), *SHORT, f"root={config.root}"]
    result = subprocess.run(
        [*command, "tracking=offline"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    folder = RunFolder(run_folder(config))
    assert mirrored(folder) == rows(folder)
