"""Train runs with W&B and create sweeps; compare the rows of the record with those in W&B."""

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
import yaml

from accelerando.budget import register
from accelerando.config import RunSettings
from accelerando.runs.folder import RunFolder
from helpers import SHORT, after_epoch, train
from wandb_files import history, offline_files
from wandb_server import WandbServer

Settings = Callable[..., RunSettings]
ONLINE = (*SHORT, "tracking=online")
OFFLINE = (*SHORT, "tracking=offline")
SWEEP_COMMAND = ["${env}", "python", "train.py", "${args_no_hyphens}"]
WANDB = [sys.executable, "-m", "wandb"]


def recorded_rows(folder: RunFolder) -> list[dict[str, Any]]:
    """Return all rows of a run's record, in the order in which they were made."""
    files = (folder.steps, folder.record)
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted(rows, key=lambda row: (row["step"], "full_gradient_norm" in row))


def mirrored_rows(folder: RunFolder) -> list[dict[str, Any]]:
    """Return all rows in the offline W&B files of a run."""
    return [row for file in offline_files(folder) for row in history(file)]


def without_seconds(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Drop the only value that differs if a row is made twice."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def train_until_sigkill(config: RunSettings) -> None:
    """Kill this process in the second epoch, while W&B has rows that are not written yet."""
    register()
    os.environ.pop("WANDB_SERVICE", None)  # do not use the W&B service of the test process
    with pytest.MonkeyPatch.context() as patched:
        after_epoch(2, lambda: os.kill(os.getpid(), signal.SIGKILL), patched)
        train(config)


def create_sweep(
    server: WandbServer, folder: Path, parameters: dict[str, Any], *overrides: str
) -> str:
    """Create a grid sweep with the real command; return its full name, as agents need it."""
    command = [
        *SWEEP_COMMAND,
        "model=mlp",
        "scheduler.batch_size.initial=64",
        f"root={folder}/runs",
    ]
    grid = {name: {"values": values} for name, values in parameters.items()}
    content = {"program": "train.py", "method": "grid", "parameters": grid}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({**content, "command": [*command, *overrides]}))
    subprocess.run([*WANDB, "sweep", "--project", "theirs", path.name], cwd=folder, check=True)
    return f"someone/theirs/sweep{len(server.sweeps) - 1}"


def folders_by_wandb_id(root: Path) -> dict[str, RunFolder]:
    return {
        json.loads(path.read_text())["wandb"]["id"]: RunFolder(path.parent)
        for path in root.glob("*/*/*/state.json")
    }


def record_files(folder: Path) -> list[Path]:
    return list(folder.glob("runs/*/*/*/record.jsonl"))
