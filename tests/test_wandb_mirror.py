"""The W&B mirror offline: the real client writes every row of the record to its file."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

import wandb_files
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted
from accelerando.runs.folder import RunFolder
from accelerando.training.run import run
from helpers import ROOT, SHORT, after_epoch, compose_settings, forkserver, interrupt, train
from wandb_files import offline_files
from wandb_runs import OFFLINE, Settings, mirrored_rows, recorded_rows, train_until_sigkill


def test_offline_file_contains_exactly_the_record(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = settings(*OFFLINE)
    state = train(config)
    folder = RunFolder(run_folder(config))
    assert mirrored_rows(folder) == recorded_rows(folder)
    (file,) = offline_files(folder)
    assert state.wandb["id"].startswith(f"{state.run}-")
    logged = wandb_files.config(file)
    assert logged["hydra"] == OmegaConf.to_container(OmegaConf.load(folder.config), resolve=True)
    assert (logged["scheduler"], logged["seed"]) == ("warmup_increase", 0)
    records = list(wandb_files.records(file))
    (wandb_run,) = [r.run for r in records if r.HasField("run")]
    assert (wandb_run.run_id, wandb_run.run_group) == (state.wandb["id"], "warmup_increase")
    metrics = {r.metric.name: r.metric for r in records if r.HasField("metric")}
    assert metrics["train_loss"].step_metric == "step"
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_resumed_run_continues_the_same_wandb_run_without_overlap(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*OFFLINE)
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        after_epoch(2, interrupt, patched)
        train(config)
    train(config)
    folder = RunFolder(run_folder(config))
    files = offline_files(folder)
    assert len(files) == 2
    records = [record for file in files for record in wandb_files.records(file)]
    assert len({r.run.run_id for r in records if r.HasField("run")}) == 1
    assert mirrored_rows(folder) == recorded_rows(folder)
    statuses = [wandb_files.summary(file)["status"] for file in files]
    assert statuses == ["interrupted", "finished"]
    state = folder.read_state()
    assert state is not None
    last_summary = wandb_files.summary(files[1])
    assert last_summary["minimum_full_gradient_norm"] == state.full_gradient_norm


@pytest.mark.parametrize("first_mode", ["offline", "disabled"])
def test_resume_after_sigkill_completes_the_mirror(first_mode: str, settings: Settings) -> None:
    common = (*SHORT, "checkpoint.seconds=0")
    first = settings(*common, f"tracking={first_mode}")
    process = forkserver().Process(target=train_until_sigkill, args=(first,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    config = settings(*common, "tracking=offline")
    run(config, [], Console())  # its messages are shown if the test fails
    folder = RunFolder(run_folder(config))
    assert mirrored_rows(folder) == recorded_rows(folder)
    assert len(offline_files(folder)) == 1
    set_aside = list(folder.path.glob("wandb/incomplete-offline-run-*"))
    assert len(set_aside) == (first_mode == "offline")


def test_training_continues_when_wandb_fails(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb.sdk.wandb_run import Run

    config = settings(*OFFLINE)
    log, calls = Run.log, iter(range(100))

    def fail_once(self: Run, row: dict[str, Any], **options: Any) -> None:
        if next(calls) == 3:
            raise ConnectionResetError("wandb-core is gone")
        log(self, row, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "log", fail_once)
        state = train(config)
    assert state.status == "finished"
    assert "rows" not in state.wandb


def test_run_ignores_the_wandb_service_of_its_parent_process(
    settings: Settings, tmp_path: Path
) -> None:
    """A requeued job would find its own run still in use there."""
    config = settings(*OFFLINE)
    environment = os.environ | {"WANDB_SERVICE": f"3-{os.getpid()}-unix-{tmp_path}/nobody"}
    command = [sys.executable, str(ROOT / "train.py"), *SHORT, f"root={config.root}"]
    result = subprocess.run(
        [*command, "tracking=offline"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    folder = RunFolder(run_folder(config))
    assert mirrored_rows(folder) == recorded_rows(folder)


ARTIFACT_RUNS = {
    "not requested": "tracking.artifacts=false",
    "finished": "tracking.artifacts=true",
    "diverged": "tracking.artifacts=true scheduler.learning_rate.initial=1e30",
}


def write_uploaded_artifacts(root: str, path: Path) -> None:
    """Train ``ARTIFACT_RUNS``, and write the files of each artifact as JSON."""
    uploaded = {}
    for seed, (name, overrides) in enumerate(ARTIFACT_RUNS.items()):
        config = compose_settings(
            f"root={root}", *SHORT, "tracking=offline", f"seed={seed}", *overrides.split()
        )
        state = run(config, [], Console(stderr=True))
        assert state is not None
        (file,) = offline_files(RunFolder(run_folder(config)))
        exits = [r.exit.exit_code for r in wandb_files.records(file) if r.HasField("exit")]
        assert exits == [0]
        assert "rows" in state.wandb  # every row was sent
        uploaded[name] = {
            artifact.name.removesuffix(f"-{state.wandb['id']}"): sorted(
                entry.path for entry in artifact.manifest.contents
            )
            for artifact in wandb_files.artifacts(file)
        }
    path.write_text(json.dumps(uploaded))


def test_record_and_checkpoint_are_uploaded_on_request(tmp_path: Path) -> None:
    path = tmp_path / "uploaded.json"
    # a new process, since the client keeps global state
    process = multiprocessing.get_context("spawn").Process(
        target=write_uploaded_artifacts, args=(f"{tmp_path}/runs", path)
    )
    process.start()
    process.join(120)
    assert process.exitcode == 0
    record = ["config.yaml", "record.jsonl", "steps.jsonl"]
    assert json.loads(path.read_text()) == {
        "not requested": {},
        "finished": {"record": record, "checkpoint": ["checkpoint.pt"]},
        "diverged": {"record": record},  # before its first checkpoint
    }
