"""Runs of several processes on this machine: results, signals and lost processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.identity import run_folder, run_id
from accelerando.runs.folder import RunFolder
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.processes import _first_address
from helpers import ROOT, SHORT, identical, read_rows, start_process, train

Settings = Callable[..., RunSettings]


@pytest.mark.parametrize("more", [(), ("model=cnn_bn", "hardware.sync_batch_norm=true")])
def test_two_processes_match_one(more: tuple[str, ...], settings: Settings, tmp_path: Path) -> None:
    one = settings(*SHORT, *more, f"root={tmp_path}/one", "measure.variance=false")
    two = settings(*SHORT, *more, "hardware.processes=2")
    assert run_id(one) == run_id(two)
    for config in (one, two):
        train(config)
    folders = [RunFolder(run_folder(config)) for config in (one, two)]
    for name in ("record", "steps"):
        alone, together = (read_rows(getattr(folder, name)) for folder in folders)
        assert len(alone) == len(together)
        for row, other in zip(alone, together, strict=True):
            assert other == pytest.approx(row, rel=1e-3, abs=1e-5)


def test_a_launcher_with_a_different_number_of_processes_is_rejected(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match=r"3 processes were started, but hardware\.processes is 2"):
        train(settings(*SHORT, "hardware.processes=2"))


LONG = (
    "model=cnn_bn",
    "epochs=15",
    "scheduler=decay_constant",
    "scheduler.batch_size.initial=16",
    "optimizer.momentum=0.9",
    "tracking=disabled",
    "hardware.processes=2",
)


def start(root: Path, *more: str) -> subprocess.Popen[bytes]:
    with (root.parent / f"{root.name}.log").open("ab") as log:
        return start_process(
            [sys.executable, str(ROOT / "train.py"), *LONG, f"root={root}", *more],
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def record_of(root: Path) -> list[Path]:
    return list(root.glob("*/*/*/record.jsonl"))


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, "it ended early"
        time.sleep(0.05)
    raise TimeoutError


def members(group: int) -> list[int]:
    """Return the PIDs of a process group, except its leader."""
    result = subprocess.run(["ps", "-wweo", "pid,pgid,args"], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in result.stdout.splitlines()[1:]]
    return [int(r[0]) for r in rows if int(r[1]) == group and "spawn_main" in r[2]]


def saved_step(root: Path) -> int:
    (path,) = record_of(root)
    saved = Checkpoint.load(RunFolder(path.parent), torch.device("cpu"), print)
    return -1 if saved is None else saved.position.step


def rows(root: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in record_of(root))


def test_a_run_resumes_after_interrupted_and_lost_processes(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(whole).wait(300) == 0
    # signal the main process only: all ranks stop at the same step, and a checkpoint is saved
    process = start(broken)
    wait_until(lambda: rows(broken) >= 3, process)
    process.terminate()
    assert process.wait(60) == 75
    assert members(process.pid) == []
    # kill another rank: the main process reports it and saves a checkpoint of the last joint step
    process = start(broken)
    before, saved = rows(broken), saved_step(broken)
    wait_until(lambda: rows(broken) > before + 2 and members(process.pid), process)
    os.kill(members(process.pid)[0], signal.SIGKILL)
    assert process.wait(60) == 1
    assert "another process of the run was lost" in (tmp_path / "broken.log").read_text()
    assert saved_step(broken) > saved
    # kill the main process: no other rank is left running
    process = start(broken)
    wait_until(lambda: members(process.pid), process)
    followers = members(process.pid)
    time.sleep(1)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert followers
    assert members(process.pid) == []
    assert start(broken).wait(300) == 0
    folders = [RunFolder(record_of(root)[0].parent) for root in (whole, broken)]
    assert identical(*folders)


def test_srun_starts_the_processes(tmp_path: Path) -> None:
    """One task per process, distinguished by the environment variables that SLURM sets."""
    arguments = [sys.executable, str(ROOT / "train.py"), *LONG, "epochs=1", f"root={tmp_path}/runs"]
    tasks = [
        start_process(
            arguments,
            env={**os.environ, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": str(rank),
                 "SLURM_NNODES": "1", "SLURM_LOCALID": str(rank), "SLURM_JOB_ID": str(os.getpid())},
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [task.wait(120) for task in tasks] == [0, 0]
    assert len(record_of(tmp_path / "runs")) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_during_start_up_is_not_a_failure(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = start(tmp_path / "runs")
    wait_until(lambda: members(process.pid), process)
    os.killpg(process.pid, number)
    assert process.wait(60) == 75, (tmp_path / "runs.log").read_text()


def test_torchrun_starts_the_processes(tmp_path: Path) -> None:
    arguments = [str(ROOT / "train.py"), *LONG, "epochs=2", f"root={tmp_path}/runs"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    for message in ("finished: 2 epochs", "it has already finished"):
        done: Any = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert message in done.stderr
    (path,) = record_of(tmp_path / "runs")
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [0, 1, 2]


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n7", "n7"), ("n[01-04],m2", "n01"), ("a-[3,5]-b[2-4]", "a-3-b2"), ("n2,n[4-5]", "n2")],
)
def test_address_of_the_first_node_with_and_without_scontrol(
    nodes: str, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _first_address(nodes) == first
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho NodeName=$4 NodeAddr=at-$4 State=IDLE\n")
    (tmp_path / "scontrol").chmod(0o755)
    assert _first_address(nodes) == f"at-{first}"
    (tmp_path / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    assert _first_address(nodes) == first
