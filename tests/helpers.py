"""Shared by test modules: settings, complete runs, processes and record files."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from rich.console import Console

from accelerando.budget import register
from accelerando.build import settings_from_hydra
from accelerando.config import RunSettings
from accelerando.interruption import Interrupted
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.run_lock import Owner
from accelerando.training.loop import Loop
from accelerando.training.run import run

ROOT = Path(__file__).parents[1]
TABLES = Path(__file__).parent / "tables"
"""Published schedules, one row per epoch."""

SHORT = ("model=mlp", "epochs=3", "scheduler.batch_size.initial=64", "tracking.every=10")
"""Overrides of a run that takes a second."""

DEAD_PID = 2**22 + 1
"""Above the largest possible PID."""
REMOTE_OWNER = Owner(host="node7", machine="another boot", pid=1, started="1")


def compose_settings(*overrides: str) -> RunSettings:
    """Compose settings as the command line does."""
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return settings_from_hydra(compose("config", list(overrides)))


def train(settings: RunSettings) -> State:
    """Train a run in this process and return its final state."""
    state = run(settings, [], Console(quiet=True))
    assert state is not None
    return state


def after_epoch(epoch: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call ``act`` as soon as the measurement after ``epoch`` is recorded."""
    original = Loop._measure

    def measure(self: Loop) -> None:
        original(self)
        if self._position.epoch == epoch:
            act()

    monkeypatch.setattr(Loop, "_measure", measure)


def interrupt_at_step(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt every run before the step after ``step``."""
    advance = Loop._advance

    def advance_or_interrupt(self: Loop) -> None:
        if self._position.step == step:
            interrupt()
        advance(self)

    monkeypatch.setattr(Loop, "_advance", advance_or_interrupt)


def interrupt() -> None:
    """Raise what the loop raises after SIGTERM."""
    raise Interrupted(signal.SIGTERM)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a record without ``seconds``."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def weights(folder: RunFolder) -> dict[str, Any]:
    """Return the state dict of the model in the checkpoint."""
    content = torch.load(folder.checkpoint, weights_only=True)
    model: dict[str, Any] = content["model"]
    return model


def identical(first: RunFolder, second: RunFolder) -> bool:
    """Whether records and final weights of two runs are bitwise identical."""
    first_weights, second_weights = weights(first), weights(second)
    return (
        read_rows(first.record) == read_rows(second.record)
        and read_rows(first.steps) == read_rows(second.steps)
        and all(torch.equal(first_weights[name], second_weights[name]) for name in first_weights)
    )


def write_lock(folder: Path, owner: Owner, number: int = 1) -> Path:
    """Write the lock file of another process."""
    folder.mkdir(exist_ok=True)
    path = folder / f".claim-{number}"
    path.write_text(json.dumps(asdict(owner)))
    return path


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds, at most a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def forkserver() -> Any:
    """Return a multiprocessing context whose server has imported torch once for all processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["accelerando.training.run", "sklearn.datasets"])
    return context


STARTED: list[subprocess.Popen[Any]] = []
"""Processes that a fixture kills at the end of the test."""


def start_process(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process in a process group of its own; it is killed when the test ends."""
    # tests in the background of a shell script ignore SIGINT, and child processes inherit that
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    STARTED.append(subprocess.Popen(command, start_new_session=True, **options))
    return STARTED[-1]


def table_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a published schedule."""
    with (TABLES / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def make_run(root: Path, name: str, status: str, **fields: object) -> RunFolder:
    """Write the state of a run, without training it."""
    folder = RunFolder(root / "digits-mlp" / "cosine" / name)
    folder.path.mkdir(parents=True)
    state = State(Status(status), name, "digits", "mlp", "cosine", 0, epochs=10, steps=100)
    replace(state, environment={"host": "node7"}, **fields).write(folder.state)
    return folder


def make_runs(root: Path) -> None:
    """Make eight runs, one of each kind."""

    def make_running(name: str, owner: Owner) -> Path:
        fields = {"progress": 5.0, "epoch": 5, "seconds": 100.0}
        return write_lock(make_run(root, name, "running", **fields).path, owner)

    make_run(root, "a-finished", "finished", full_gradient_norm=0.00123, seconds=3700.0)
    make_run(root, "b-failed", "failed", message="ValueError: bad value")
    make_running("c-alive", Owner.current())
    make_running("d-killed", replace(Owner.current(), pid=DEAD_PID))
    make_running("e-remote", REMOTE_OWNER)
    stale = make_running("f-stale", REMOTE_OWNER)
    os.utime(stale, (time.time() - 3600,) * 2)
    make_run(root, "g-unlocked", "running")
    make_run(root, "h-corrupt", "running").state.write_text("{")
