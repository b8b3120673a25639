"""The same sweep as a plain job array; and what is refused before anything is submitted."""

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
from cluster import Cluster
from conftest import ROOT, compose_settings
from slurm_runs import LONG, ON_SLURM, epochs_of, finish, folder_of, python
from test_run import same
from test_sweeps import folders, recorded, sweep
from test_wandb import rows
from wandb_server import WandbServer


def test_expand_prints_a_line_for_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["scheduler=glob(*)", "seed=0,1,2", "dataset.augmentation={crop: 4}"]
    main(["expand", *words])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [shlex.split(line) for line in lines] == expand_overrides(words)
    assert "12 runs: --array=0-11" in printed.err
    main(["expand", "-m", *words, "--line", "7"])
    assert capsys.readouterr().out.splitlines() == [lines[7]]
    with pytest.raises(SystemExit):
        main(["expand", *words, "--line", "12"])
    assert "there is no run 12: these words stand for 12" in capsys.readouterr().err


def test_a_plain_array_saves_at_its_signal_and_goes_on(
    cluster: Cluster, tmp_path: Path, undisturbed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    words = [*LONG, "seed=0,1", "hardware=slurm_cpu", f"root={tmp_path}"]
    job = cluster.call(
        *("sbatch", "--parsable", "--array=0-1", "--time=10", f"--export=ALL,PATH={path}"),
        *(f"--output={tmp_path}/%A_%a.out", "slurm/array.sbatch", *words),
    )
    folders = [folder_of(tmp_path, *LONG, f"seed={seed}") for seed in range(2)]
    cluster.wait_until(lambda: min(map(epochs_of, folders)) > 3, 180)
    for seed, folder in enumerate(folders):
        word = read_slurm_record(folder.path)
        assert word is not None
        assert (word.job, word.output) == (f"{job}_{seed}", f"{tmp_path}/{job}_{seed}.out")
    cluster.call("scancel", "--batch", "--signal=USR2", f"{job}_0")  # as before the end of its time
    cluster.wait_until(lambda: cluster.state(f"{job}_0") == "PENDING", 90)
    finish(cluster, *folders)
    assert same(folders[0], undisturbed)
    text = Path(f"{tmp_path}/{job}_0.out").read_text()
    assert "interrupted by SIGUSR2, saved" in text
    assert re.search(r"going on from epoch [1-9]", text)
    cluster.wait_until(lambda: cluster.state(f"{job}_1") == "COMPLETED", 90)


def test_agents_in_an_array_hand_a_run_back_at_their_signal(
    wandb_server: WandbServer, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task goes back into the queue, and its next agent goes on with the run."""
    monkeypatch.chdir(ROOT)
    words = ("epochs=400", "tracking.every=100000", "tracking=online")
    name = sweep(wandb_server, tmp_path, {"seed": [0, 1]}, *words)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    job = cluster.call(
        *("sbatch", "--parsable", "--array=0-1", "--time=10", f"--output={tmp_path}/%A_%a.out"),
        *(f"--export=ALL,PATH={path},WANDB_DIR={tmp_path}", "slurm/agents.sbatch", name),
    )
    cluster.wait_until(lambda: len(recorded(tmp_path)) == 2, 240)
    time.sleep(2)
    cluster.call("scancel", "--batch", "--signal=USR2", f"{job}_0")
    cluster.wait_until(lambda: cluster.state(f"{job}_0") == "PENDING", 120)
    runs = wandb_server.runs
    cluster.wait_until(lambda: [run.exitcode for run in runs.values()] == [0, 0], 300)
    text = Path(f"{tmp_path}/{job}_0.out").read_text()
    assert re.search("interrupted by SIG(USR1|TERM), saved", text), text
    assert "interrupted earlier, going on from epoch" in text
    here = folders(tmp_path / "runs")
    assert {identity: run.rows for identity, run in runs.items()} == {
        identity: rows(folder) for identity, folder in here.items()
    }


REFUSED = {
    "hydra.launcher.partition=gpu": "there is no partition gpu; the cluster has main, urgent",
    "hydra.launcher.timeout_min=1": "ends a job before its first checkpoint",
    "hydra.launcher.signal_delay_s=99999": "announces the end of a job",
    "hydra.launcher.runs_per_job=0": "hydra.launcher.runs_per_job must be at least 1",
    "hydra.launcher.mem_gb=90000": "SLURM refuses the job",
    "hardware.processes=3 hydra.launcher.nodes=2": "hardware.processes=3 is not 2 nodes",
    "hardware.processes=2 hydra.launcher.runs_per_job=2": "fill their job",
    "hydra.launcher.additional_parameters={clusters:b}": "export SLURM_CLUSTERS instead",
    "+hydra.launcher.memory=8": "hydra.launcher has no setting memory; it has",
    "scheduler.batch_size.growth=0.5": "growth must be at least 1",
    "model.widths=[0]": "widths must be at least 1",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_run_is_refused_in_one_line(
    words: str, cluster: Cluster, tmp_path: Path
) -> None:
    arguments = ["model=mlp", "-m", "seed=0,1", *words.split(), f"root={tmp_path}"]
    result = python(ROOT / "train.py", *ON_SLURM, *arguments)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert line.startswith("error: ")
    assert REFUSED[words] in line
    assert cluster.call("squeue", "-h") == ""


def test_without_slurm_the_line_says_so(tmp_path: Path) -> None:
    result = python(ROOT / "train.py", *ON_SLURM, f"root={tmp_path}", PATH="")
    assert result.returncode == 1
    assert "there is no SLURM on this machine" in result.stderr


def test_where_srun_is_missing_the_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "sbatch").touch(0o755)
    result = python(ROOT / "train.py", *ON_SLURM, f"root={tmp_path}", PATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.startswith("error: there is no SLURM on this machine (no srun): submit")


def test_a_folder_that_nodes_cannot_see_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from accelerando.checks import UsageError
    from accelerando.launch import cluster

    monkeypatch.setattr(cluster, "other_clusters", lambda: True)
    with pytest.raises(UsageError, match="a folder of this machine alone"):
        cluster._check_folder("root", Path("/tmp/runs"))
    cluster._check_folder("root", Path("/home/me/runs"))
    # the folder of the command, where its jobs begin, is looked at too
    monkeypatch.setattr(cluster, "LOCAL", [tmp_path])
    monkeypatch.setattr(cluster.shutil, "which", lambda _: "sbatch")
    monkeypatch.setattr(cluster, "partitions", lambda: ["main"])
    monkeypatch.chdir(tmp_path)
    config = compose_settings("hardware=slurm_cpu", "root=/home/me/runs")
    launcher = {
        **dict.fromkeys(("nodes", "tasks_per_node", "gpus_per_node", "partition")),
        "additional_parameters": None,
        **{"runs_per_job": 1, "timeout_min": 240, "max_num_timeout": 1, "signal_delay_s": 120},
        "submitit_folder": "/home/me/submitit",
    }
    with pytest.raises(UsageError, match="the working folder"):
        cluster.check_cluster([config], launcher)
