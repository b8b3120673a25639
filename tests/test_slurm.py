"""Runs on a real SLURM: submitted and left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from accelerando.composition import compose_runs
from accelerando.identity import run_folder
from accelerando.launch.array_task import ArrayTask
from accelerando.launch.pool import Job
from accelerando.launch.slurm_status import add_slurm_status
from accelerando.runs.folder import RunFolder, Status
from accelerando.runs.listing import list_runs
from cluster import Cluster
from conftest import ROOT, begin
from slurm_runs import HELD, LONG, ON_SLURM, finish, folder_of, python, seen, status_of, submit
from test_run import lines, train


def test_a_sweep_is_submitted_and_left(cluster: Cluster, tmp_path: Path) -> None:
    words = ("-m", "scheduler=glob(*)", "seed=0,1,2", "model=mlp", "epochs=2")
    # held back until it was seen that a second call leaves them alone
    job = submit(tmp_path, *words, HELD)
    waiting = add_slurm_status(list_runs(tmp_path))
    assert [run.status for run in waiting] == [Status.PENDING] * 12
    # SLURM says why when it has looked at the job
    cluster.wait_until(lambda: "BeginTime" in add_slurm_status(list_runs(tmp_path))[0].details, 30)
    again = python(ROOT / "train.py", *ON_SLURM, *words, f"root={tmp_path}")
    assert "12 of 12 are already in SLURM's queue" in again.stderr
    assert "submitted" not in again.stdout
    cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")
    runs = compose_runs([*words[1:], f"root={tmp_path}"])
    assert len(runs) == 12
    finish(cluster, *[RunFolder(run_folder(config)) for config in runs])
    states = cluster.job_states([job])
    cluster.wait_until(lambda: set(cluster.job_states([job]).values()) == {"COMPLETED"}, 90)
    assert len(states) == 12
    again = python(ROOT / "train.py", *ON_SLURM, *words, f"root={tmp_path}")
    assert "12 of 12 runs have already ended" in again.stderr
    assert again.stdout == ""
    assert {run.status for run in add_slurm_status(list_runs(tmp_path))} == {Status.FINISHED}


def test_squeue_that_is_silent_lets_nothing_be_submitted_twice(
    cluster: Cluster, tmp_path: Path
) -> None:
    words = [*ON_SLURM, "model=mlp", "epochs=2", f"root={tmp_path}/runs"]
    assert python(ROOT / "train.py", *words, HELD).returncode == 0
    (tmp_path / "squeue").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    result = python(ROOT / "train.py", *words, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 1
    assert "squeue does not respond" in result.stderr
    assert len(cluster.call("squeue", "-h").splitlines()) == 1


def test_a_sweep_interrupted_as_it_is_submitted_is_not_submitted_twice(
    cluster: Cluster, tmp_path: Path
) -> None:
    words = (*ON_SLURM, *LONG, f"root={tmp_path}/runs")
    sbatch = shutil.which("sbatch")
    # as a terminal does: to every process of the command
    (tmp_path / "sbatch").write_text(f'#!/bin/bash\n{sbatch} "$@" && kill -INT 0\n')
    (tmp_path / "sbatch").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_MODE": "offline"}
    command = [sys.executable, str(ROOT / "train.py"), *words]
    process = begin(command, env={**os.environ, **path}, stdout=subprocess.PIPE, text=True)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 75
    (job,) = re.findall(r"^submitted job (\d+)", printed)
    again = python(ROOT / "train.py", *words)
    assert again.returncode == 0, again.stderr
    assert "1 of 1 are already in SLURM's queue" in again.stderr
    cluster.call("scancel", job)


def test_a_sweep_may_be_submitted_from_inside_a_job(cluster: Cluster, tmp_path: Path) -> None:
    """Also where the site gives jobs no environment."""
    words = ("model=mlp", "epochs=1")
    job = {"JOB_ID": "1", "ARRAY_JOB_ID": "1", "ARRAY_TASK_ID": "2", "MEM_PER_CPU": "100"}
    inside = {f"SLURM_{name}": value for name, value in job.items()}
    root = f"root={tmp_path}"
    for seed, environment in enumerate([inside, {"SBATCH_EXPORT": "NONE"}]):
        more = (f"seed={seed}", root, "hydra.launcher.cpus_per_task=2")
        result = python(ROOT / "train.py", *ON_SLURM, *words, *more, **environment)
        assert result.returncode == 0, result.stderr
    finish(cluster, *[folder_of(tmp_path, *words, f"seed={seed}") for seed in range(2)])
    for script in tmp_path.rglob("*_submission.sh"):
        (line,) = [line for line in script.read_text().splitlines() if line.startswith("srun ")]
        assert " --cpus-per-task=2 " in line


def test_settings_win_over_the_environment_where_they_are_given(
    cluster: Cluster, tmp_path: Path
) -> None:
    told = {"PARTITION": "urgent", "TIMELIMIT": "7", "MEM_PER_CPU": "100", "REQUEUE": "0"}
    environment = {f"SBATCH_{name}": value for name, value in told.items()}
    for partition, expected in (("main", "main"), ("null", "urgent")):
        words = (HELD, f"hydra.launcher.partition={partition}", f"root={tmp_path}/{partition}")
        result = python(ROOT / "train.py", *ON_SLURM, *words, "seed=0", **environment)
        assert result.returncode == 0, result.stderr
        shown = cluster.call("scontrol", "show", "job", result.stdout.split()[2].strip(":"))
        assert {f"Partition={expected}", "TimeLimit=04:00:00", "MinMemoryNode=1G"} <= set(
            shown.split()
        )


def test_a_pipe_that_is_closed_does_not_end_a_submission_half_way(
    cluster: Cluster, tmp_path: Path
) -> None:
    # two arrays: a word is left of the first when nobody reads any more
    words = ("-m", "model=cnn_bn", "hardware.processes=1,2")
    command = [sys.executable, str(ROOT / "train.py"), *ON_SLURM, *words, HELD, f"root={tmp_path}"]
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(command, stdout=write, stderr=write, timeout=300)
    os.close(write)
    assert result.returncode == 0
    runs = add_slurm_status(list_runs(tmp_path))
    assert [run.status for run in runs] == [Status.PENDING, Status.PENDING]
    assert len(cluster.call("squeue", "-h", "-o", "%i").split()) == 2


def test_settings_are_those_that_were_submitted(cluster: Cluster, tmp_path: Path) -> None:
    """Not what their files say when the job begins."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "train.py", tmp_path)
    words = ("model=mlp", "epochs=1")
    result = python(tmp_path / "train.py", *ON_SLURM, *words, HELD, f"root={tmp_path}/runs")
    assert result.returncode == 0, result.stderr
    path = tmp_path / "conf" / "model" / "mlp.yaml"
    path.write_text(re.sub(r"widths: .*", "widths: [3]", path.read_text()))
    (job,) = re.findall(r"^submitted job (\d+)", result.stdout)
    cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")
    finish(cluster, folder_of(tmp_path / "runs", *words))


def test_a_run_that_failed_is_a_failed_job_and_does_not_end_its_neighbours(
    cluster: Cluster, tmp_path: Path
) -> None:
    words = ("model=mlp", "epochs=2")
    folders = [folder_of(tmp_path, *words, f"seed={seed}") for seed in range(3)]
    folders[1].record.mkdir(parents=True)  # where a file should be
    job = submit(tmp_path, *words, "-m", "seed=0,1,2", "hydra.launcher.runs_per_job=3")
    cluster.wait_for_state(job, "FAILED", 240)
    assert [seen(folder).status for folder in folders] == [
        Status.FINISHED,
        Status.FAILED,
        Status.FINISHED,
    ]
    text = python("-m", "accelerando.commands", "logs", folders[1].path).stdout
    assert "2 of 3" not in text
    assert re.search(r"failed  warmup_increase seed 1", text), text
    folders[1].record.rmdir()
    again = submit(tmp_path, *words, "-m", "seed=0,1,2", "hydra.launcher.runs_per_job=3")
    cluster.wait_for_state(again, "COMPLETED", 180)
    assert status_of(folders[1]) == Status.FINISHED


def test_two_nodes_train_one_run(cluster: Cluster, tmp_path: Path) -> None:
    words = ("model=mlp", "epochs=3", "scheduler.batch_size.initial=7")
    (config,) = compose_runs([*words, "tracking=disabled", f"root={tmp_path}/alone"])
    train(config)
    submit(tmp_path, *words, "hardware.processes=2", "hydra.launcher.nodes=2")
    folder, alone = folder_of(tmp_path, *words), RunFolder(run_folder(config))
    finish(cluster, folder)
    nodes = cluster.call("squeue", "-h", "-t", "all", "-o", "%D")
    assert "2" in nodes.split()
    for one, other in zip(lines(folder.record), lines(alone.record), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def notify(folder: Path) -> None:
    """A task of a large array: too light for torch."""
    assert "torch" not in sys.modules
    (folder / os.environ["SLURM_ARRAY_TASK_ID"]).touch()


def test_an_array_of_a_hundred_tasks(cluster: Cluster, tmp_path: Path) -> None:
    from functools import partial

    import cloudpickle
    import submitit

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    (tmp_path / "done").mkdir()
    task = ArrayTask([Job("light", tmp_path, partial(notify, tmp_path / "done"))])
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="slurm")
    executor.update_parameters(timeout_min=5, mem_gb=1)
    with executor.batch():
        jobs = [executor.submit(task) for _ in range(100)]
    assert len({job.job_id for job in jobs}) == 100
    cluster.wait_until(lambda: len(list((tmp_path / "done").iterdir())) == 100, 300)
