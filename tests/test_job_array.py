"""Sweeps as plain job arrays, without submitit: ``accelerando expand`` and the batch scripts."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from pathlib import Path

import pytest

from accelerando.commands import main
from accelerando.composition import expand_overrides
from accelerando.runs.folder import RunFolder
from accelerando.runs.slurm_record import read_slurm_record
from helpers import ROOT, identical
from slurm_cluster import Cluster
from slurm_runs import LONG, completed_epochs, folder_of, wait_until_finished
from wandb_runs import create_sweep, folders_by_wandb_id, record_files, recorded_rows
from wandb_server import WandbServer

PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
"""The batch scripts expect ``python`` and ``accelerando`` on the path."""


def test_expand_prints_a_line_for_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["scheduler=glob(*)", "seed=0,1,2", "dataset.augmentation={crop: 4}"]
    main(["expand", *overrides])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [shlex.split(line) for line in lines] == expand_overrides(overrides)
    assert "12 runs: --array=0-11" in printed.err
    main(["expand", "-m", *overrides, "--line", "7"])
    assert capsys.readouterr().out.splitlines() == [lines[7]]
    with pytest.raises(SystemExit):
        main(["expand", *overrides, "--line", "12"])
    assert "there is no run 12" in capsys.readouterr().err


def test_plain_array_saves_at_its_signal_and_resumes(
    cluster: Cluster, tmp_path: Path, uninterrupted: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    overrides = [*LONG, "seed=0,1", "hardware=slurm_cpu", f"root={tmp_path}"]
    job = cluster.call(
        *("sbatch", "--parsable", "--array=0-1", "--time=10", f"--export=ALL,PATH={PATH}"),
        *(f"--output={tmp_path}/%A_%a.out", "slurm/array.sbatch", *overrides),
    )
    runs = [folder_of(tmp_path, *LONG, f"seed={seed}") for seed in range(2)]
    cluster.wait_until(lambda: min(map(completed_epochs, runs)) > 3, 180)
    for seed, folder in enumerate(runs):
        record = read_slurm_record(folder.path)
        assert record is not None
        assert (record.job, record.output) == (f"{job}_{seed}", f"{tmp_path}/{job}_{seed}.out")
    cluster.call("scancel", "--batch", "--signal=USR2", f"{job}_0")  # as before the time limit
    cluster.wait_until(lambda: cluster.state(f"{job}_0") == "PENDING", 90)
    wait_until_finished(cluster, *runs)
    assert identical(runs[0], uninterrupted)
    text = Path(f"{tmp_path}/{job}_0.out").read_text()
    assert "interrupted by SIGUSR2, saved" in text
    assert re.search(r"resuming from epoch [1-9]", text)
    cluster.wait_until(lambda: cluster.state(f"{job}_1") == "COMPLETED", 90)


def test_agent_returns_its_run_at_the_signal_and_another_resumes_it(
    wandb_server: WandbServer, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is requeued, and its next agent takes the run up again."""
    monkeypatch.chdir(ROOT)
    overrides = ("epochs=400", "tracking.every=100000", "tracking=online")
    name = create_sweep(wandb_server, tmp_path, {"seed": [0, 1]}, *overrides)
    job = cluster.call(
        *("sbatch", "--parsable", "--array=0-1", "--time=10", f"--output={tmp_path}/%A_%a.out"),
        *(f"--export=ALL,PATH={PATH},WANDB_DIR={tmp_path}", "slurm/agents.sbatch", name),
    )
    cluster.wait_until(lambda: len(record_files(tmp_path)) == 2, 240)
    time.sleep(2)
    cluster.call("scancel", "--batch", "--signal=USR2", f"{job}_0")
    cluster.wait_until(lambda: cluster.state(f"{job}_0") == "PENDING", 120)
    runs = wandb_server.runs
    cluster.wait_until(lambda: [run.exitcode for run in runs.values()] == [0, 0], 300)
    text = Path(f"{tmp_path}/{job}_0.out").read_text()
    assert re.search("interrupted by SIG(USR1|TERM), saved", text), text
    assert "resuming from epoch" in text
    folders = folders_by_wandb_id(tmp_path / "runs")
    assert {run_id: run.rows for run_id, run in runs.items()} == {
        run_id: recorded_rows(folder) for run_id, folder in folders.items()
    }
