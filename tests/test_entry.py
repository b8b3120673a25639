"""The command lines of the README, run as subprocesses."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accelerando.config import RunSettings
from accelerando.entry import explain, flags_first
from accelerando.identity import run_folder
from accelerando.runs.folder import RunFolder
from helpers import ROOT, identical, start_process, train, wait_for

Command = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ("model=mlp", "epochs=2")


def states(root: Path) -> dict[str, str]:
    """Return the status of every run, by scheduler and seed."""
    states = [json.loads(path.read_text()) for path in root.glob("*/*/*/state.json")]
    return {f"{state['scheduler']} {state['seed']}": state["status"] for state in states}


def test_the_headline_usage(command: Command, tmp_path: Path, settings: Any) -> None:
    """With -m in the middle; a pool gives bitwise the same as a single run; repeating is safe."""
    line = ("scheduler=warmup_increase", "-m", "seed=0,1,2", *SMALL)
    result = command(*line)
    assert result.returncode == 0, result.stderr
    assert "3 finished" in result.stderr
    assert states(tmp_path / "runs") == {f"warmup_increase {seed}": "finished" for seed in range(3)}
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", ".cache", ".config"}

    alone: RunSettings = settings(*SMALL, "seed=1", f"root={tmp_path}/alone")
    train(alone)
    pooled: RunSettings = settings(*SMALL, "seed=1")
    assert identical(RunFolder(run_folder(alone)), RunFolder(run_folder(pooled)))

    again = command(*line)
    assert again.returncode == 0, again.stderr
    assert "3 of 3 runs have already ended" in again.stderr


def test_a_sweep_with_a_diverging_run(command: Command) -> None:
    line = ("-m", "scheduler=glob(*)", "scheduler.learning_rate.initial=0.1,1e30", *SMALL)
    result = command(*line, "scheduler/learning_rate=cosine")
    assert result.returncode == 0, result.stderr
    assert "4 finished" in result.stderr
    assert "4 diverged" in result.stderr


def test_a_single_run_prints_where_its_files_are(command: Command, tmp_path: Path) -> None:
    result = command(*SMALL)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "runs").glob("digits-mlp/warmup_increase/seed0-*")
    assert f"files    {folder}" in result.stderr
    assert "accelerando compare" in result.stderr
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "record.jsonl", "steps.jsonl", "state.json", "checkpoint.pt",
    }  # fmt: skip
    assert result.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_sweep_resumes(tmp_path: Path, number: signal.Signals) -> None:
    line = ("-m", "seed=0,1,2", "model=mlp", "epochs=400", "hydra.launcher.workers=2")
    process = start(tmp_path, *line)
    wait_for(lambda: len(list((tmp_path / "runs").glob("*/*/*/record.jsonl"))) == 2)
    os.killpg(process.pid, number)  # as a terminal does: to the runs as well
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "2 interrupted, 1 not started" in errors
    assert "unfinished: 3 of 3 runs; rerun the same command to resume" in errors
    assert "Traceback" not in errors
    assert set(states(tmp_path / "runs").values()) == {"interrupted"}


@pytest.mark.parametrize("seconds", [2, 3.5, 6])  # sooner, Python itself is not up
def test_an_interruption_during_start_up_is_not_a_failure(tmp_path: Path, seconds: float) -> None:
    process = start(tmp_path, "-m", "seed=0,1", "model=mlp", "epochs=2000")
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "Traceback" not in errors
    assert set(states(tmp_path / "runs").values()) <= {"interrupted"}


def test_a_killed_run_fails_alone_and_resumes_bitwise(
    tmp_path: Path, settings: Any, reference: Any
) -> None:
    """SIGKILL of one process: the rest of the sweep continues, and a rerun completes it."""
    line = ("-m", "seed=0,1", "model=mlp", "epochs=40", "checkpoint.seconds=0.2",
            "hydra.launcher.workers=2", "dataset=glob(digits)")  # fmt: skip
    process = start(tmp_path, *line)
    folder = RunFolder(run_folder(settings("seed=1", "model=mlp", "epochs=40")))
    wait_for(lambda: folder.checkpoint.exists())
    state = folder.read_state()
    assert state is not None
    os.kill(state.environment["pid"], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "1 finished, 1 failed" in errors
    assert "killed by SIGKILL" in errors
    (command,) = re.findall(r"^  rerun    python (.*)$", errors, re.MULTILINE)
    assert "'dataset=glob(digits)'" in command  # as a shell wants it
    _, *again = shlex.split(command)
    process = start(tmp_path, *again[:-1])  # the last is the root, which start gives
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert identical(folder, reference("seed=1", "model=mlp", "epochs=40"))


@pytest.mark.parametrize("more", [(), ("-m",)])
def test_a_run_continues_if_its_output_pipe_is_closed(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    """As in ``python train.py 2>&1 | head -1``."""
    process = start(tmp_path, *more, "seed=0,1" if more else "seed=0", *SMALL)
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(120) == 0
    assert set(states(tmp_path / "runs").values()) == {"finished"}


@pytest.mark.parametrize("more", [(), ("-m",)])
def test_a_run_works_without_stderr(tmp_path: Path, more: tuple[str, ...]) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *more, *SMALL, f"root={tmp_path}/runs"]
    result = subprocess.run(["bash", "-c", 'exec "$@" 2>&-', "", *command], timeout=120)
    assert result.returncode == 0
    assert set(states(tmp_path / "runs").values()) == {"finished"}


def test_a_run_fails_alone_if_its_folder_is_removed(tmp_path: Path, settings: Any) -> None:
    line = ("-m", "seed=0,1", "model=mlp", "epochs=40", "hydra.launcher.workers=2")
    process = start(tmp_path, *line)
    gone = RunFolder(run_folder(settings("seed=1", "model=mlp", "epochs=40")))
    wait_for(lambda: gone.record.exists())
    gone.path.rename(tmp_path / "gone")  # at once, whatever is being written there
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "1 finished, 1 failed" in errors
    assert "Traceback" not in errors


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    line = ("model=mlp", "epochs=2000")
    first = start(tmp_path, *line)
    wait_for(lambda: any((tmp_path / "runs").glob("*/*/*/record.jsonl")))
    second = start(tmp_path, *line)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"is locked by process {first.pid}" in errors
    first.send_signal(signal.SIGTERM)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 75, errors
    assert set(states(tmp_path / "runs").values()) == {"interrupted"}


def start(tmp_path: Path, *line: str) -> subprocess.Popen[str]:
    """Start ``train.py`` in a new process group."""
    return start_process(
        [sys.executable, str(ROOT / "train.py"), *line, f"root={tmp_path}/runs"],
        cwd=tmp_path,
        env={**os.environ, "WANDB_MODE": "disabled"},
        stderr=subprocess.PIPE,
        text=True,
    )


REFUSED = [
    (("epoch=3",), "Could not override 'epoch'. Choose from: checkpoint, dataset, epochs"),
    (("scheduler=cosine",), "decay_constant"),
    (("scheduler.batch_size.inital=3",), "Choose from: _target_, final, growth, initial"),
    (("epochs=ten",), "Value 'ten' of type 'str' could not be converted to Integer (epochs)"),
    (("-m", "seed=0,1", "epochs=2,0"), "epochs must be at least 1, got 0"),
    (("-m", "seed=0,1", "scheduler.batch_size.initial=8,5000"), "(1437), got 5000"),
    (("-m", "seed=range(0,0)"), "the sweep has no runs"),
    (("-m", "seed="), "An empty list of values expands to no runs: give at least one"),
    (("-m", "seed=[]"), "An empty list of values expands to no runs: give at least one"),
    (("seed=0,1",), "Ambiguous value for argument 'seed=0,1'"),
    (("optimizer=adam",), "Could not find 'optimizer/adam' Available options in 'optimizer': sgd"),
    (("scheduler/learning_rate=list",), "Missing mandatory value: learning_rate.values"),
    (("scheduler.learning_rate=cosine",), "choose one with scheduler/learning_rate=NAME"),
    (("dataset.examples=1500",), "the data set has 1437 training images"),
    (("dataset.augmentation={crop:4}",), "dataset.augmentation has no _target_"),
    (("+optimizer.lr=0.1",), "there is no setting optimizer.lr: choose from momentum"),
    (("+foo=1",), "there is no setting foo: choose from checkpoint"),
    (("model.widths=[0]",), "widths must be at least 1, got 0"),
    (("-m", "model.widths=[8],[0]"), "widths must be at least 1, got 0"),
    (("-m", "dataset.examples=1437,1500"), "the data set has 1437 training images"),
    (("-m", "seed=0", "hydra.launcher.workers=-1"), "hydra.launcher.workers must be at least 1"),
    (("-m", "seed=0", "hydra.launcher.workers=two"), "hydra.launcher.workers must be an integer"),
    (("dataset=fashion_mnist", "dataset.folder=/nowhere"), "apt install dataset-fashion-mnist"),
    (("hardware=gpu", "hardware.device=abacus"), "hardware.device=abacus is not available"),
    (("-m", "seed=0,1", "hardware.device=abacus"), "hardware.device=abacus is not available"),
]


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[" ".join(a) for a, _ in REFUSED])
def test_user_errors_are_reported_in_one_line(
    line: tuple[str, ...], message: str, command: Command, tmp_path: Path
) -> None:
    result = command(*line)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not states(tmp_path / "runs")


def test_an_unwritable_root(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = command("seed=0", root=tmp_path / "file")
    assert result.returncode == 1
    assert "write runs to another folder with root=DIR" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_root_is_suggested_only_for_files_in_it() -> None:
    error = PermissionError(13, "Permission denied", "/data/cifar/batch_1")
    assert explain(error) == "/data/cifar/batch_1: Permission denied"


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        ("a=1 -m b=2", "-m a=1 b=2"),
        ("a=1 b=2 --multirun", "--multirun a=1 b=2"),
        ("a=1 --cfg job b=2 --resolve", "--cfg job --resolve a=1 b=2"),
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_flags_first(given: str, ordered: str) -> None:
    assert flags_first(given.split()) == ordered.split()
