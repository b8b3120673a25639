"""Runs that are submitted to a real SLURM cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from accelerando.composition import compose_runs
from accelerando.identity import run_folder
from accelerando.launch.array_task import ArrayTask
from accelerando.launch.pool import Job
from accelerando.launch.slurm_status import add_slurm_status
from accelerando.runs.folder import RunFolder, Status
from accelerando.runs.listing import RunStatus, list_runs
from helpers import ROOT, read_rows, start_process, train
from slurm_cluster import Cluster
from slurm_runs import (
    BEGIN_LATER,
    LONG,
    ON_SLURM,
    folder_of,
    job_id,
    listed,
    python,
    status_of,
    submit,
    wait_until_finished,
)


def listed_runs(root: Path) -> list[RunStatus]:
    return add_slurm_status(list_runs(root))


def write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_sweep_is_submitted_once_and_finishes(cluster: Cluster, tmp_path: Path) -> None:
    overrides = ("-m", "scheduler=glob(*)", "seed=0,1,2", "model=mlp", "epochs=2")
    command = (ROOT / "train.py", *ON_SLURM, *overrides, f"root={tmp_path}")
    job = submit(tmp_path, *overrides, BEGIN_LATER)
    assert [run.status for run in listed_runs(tmp_path)] == [Status.PENDING] * 12
    # SLURM sets the reason when it schedules the job
    cluster.wait_until(lambda: "BeginTime" in listed_runs(tmp_path)[0].details, 30)
    while_pending = python(*command)
    assert "12 of 12 are already in SLURM's queue" in while_pending.stderr
    assert "submitted" not in while_pending.stdout
    cluster.release(job)
    runs = compose_runs([*overrides[1:], f"root={tmp_path}"])
    assert len(runs) == 12
    wait_until_finished(cluster, *[RunFolder(run_folder(settings)) for settings in runs])
    cluster.wait_until(lambda: set(cluster.job_states([job]).values()) == {"COMPLETED"}, 90)
    assert len(cluster.job_states([job])) == 12
    afterwards = python(*command)
    assert "12 of 12 runs have already ended" in afterwards.stderr
    assert afterwards.stdout == ""
    assert {run.status for run in listed_runs(tmp_path)} == {Status.FINISHED}


def test_nothing_is_submitted_twice_if_squeue_fails(cluster: Cluster, tmp_path: Path) -> None:
    command = [ROOT / "train.py", *ON_SLURM, "model=mlp", "epochs=2", f"root={tmp_path}/runs"]
    assert python(*command, BEGIN_LATER).returncode == 0
    write_script(tmp_path / "squeue", "#!/bin/sh\nexit 1\n")
    result = python(*command, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 1
    assert "squeue does not respond" in result.stderr
    assert len(cluster.call("squeue", "-h").splitlines()) == 1


def test_nothing_is_submitted_twice_after_ctrl_c(cluster: Cluster, tmp_path: Path) -> None:
    overrides = (*ON_SLURM, *LONG, f"root={tmp_path}/runs")
    # a terminal sends Ctrl-C to every process of the command, here right after the submission
    write_script(
        tmp_path / "sbatch", f'#!/bin/bash\n{shutil.which("sbatch")} "$@" && kill -INT 0\n'
    )
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_MODE": "offline"}
    process = start_process(
        [sys.executable, str(ROOT / "train.py"), *overrides],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 75
    again = python(ROOT / "train.py", *overrides)
    assert again.returncode == 0, again.stderr
    assert "1 of 1 are already in SLURM's queue" in again.stderr
    cluster.call("scancel", job_id(output))


@pytest.mark.parametrize("site", ["inside a job", "jobs get no environment"])
def test_sweep_is_submitted_from_other_environments(
    site: str, cluster: Cluster, tmp_path: Path
) -> None:
    environments = {
        "inside a job": {
            "SLURM_JOB_ID": "1",
            "SLURM_ARRAY_JOB_ID": "1",
            "SLURM_ARRAY_TASK_ID": "2",
            "SLURM_MEM_PER_CPU": "100",
        },
        "jobs get no environment": {"SBATCH_EXPORT": "NONE"},
    }
    overrides = ("model=mlp", "epochs=1")
    command = (*ON_SLURM, *overrides, f"root={tmp_path}", "hydra.launcher.cpus_per_task=2")
    result = python(ROOT / "train.py", *command, **environments[site])
    assert result.returncode == 0, result.stderr
    wait_until_finished(cluster, folder_of(tmp_path, *overrides))
    (script,) = tmp_path.rglob("*_submission.sh")
    (srun,) = [line for line in script.read_text().splitlines() if line.startswith("srun ")]
    assert " --cpus-per-task=2 " in srun


@pytest.mark.parametrize(("partition", "expected"), [("main", "main"), ("null", "urgent")])
def test_settings_take_precedence_over_the_environment(
    partition: str, expected: str, cluster: Cluster, tmp_path: Path
) -> None:
    values = {"PARTITION": "urgent", "TIMELIMIT": "7", "MEM_PER_CPU": "100", "REQUEUE": "0"}
    overrides = (BEGIN_LATER, f"hydra.launcher.partition={partition}", f"root={tmp_path}")
    environment = {f"SBATCH_{name}": value for name, value in values.items()}
    result = python(ROOT / "train.py", *ON_SLURM, *overrides, **environment)
    assert result.returncode == 0, result.stderr
    fields = cluster.call("scontrol", "show", "job", job_id(result.stdout)).split()
    assert {f"Partition={expected}", "TimeLimit=04:00:00", "MinMemoryNode=1G"} <= set(fields)


def test_closed_pipe_does_not_interrupt_a_submission(cluster: Cluster, tmp_path: Path) -> None:
    # two job arrays: the pipe is already closed when the first id is printed
    overrides = ("-m", "model=cnn_bn", "hardware.processes=1,2", BEGIN_LATER, f"root={tmp_path}")
    command = [sys.executable, str(ROOT / "train.py"), *ON_SLURM, *overrides]
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(command, stdout=write, stderr=write, timeout=300)
    os.close(write)
    assert result.returncode == 0
    assert [run.status for run in listed_runs(tmp_path)] == [Status.PENDING, Status.PENDING]
    assert len(cluster.call("squeue", "-h", "-o", "%i").split()) == 2


def test_job_uses_the_settings_from_its_submission(cluster: Cluster, tmp_path: Path) -> None:
    """The job ignores changes that are made to the config files before it starts."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "train.py", tmp_path)
    overrides = ("model=mlp", "epochs=1")
    root = f"root={tmp_path}/runs"
    result = python(tmp_path / "train.py", *ON_SLURM, *overrides, BEGIN_LATER, root)
    assert result.returncode == 0, result.stderr
    path = tmp_path / "conf" / "model" / "mlp.yaml"
    path.write_text(re.sub(r"widths: .*", "widths: [3]", path.read_text()))
    cluster.release(job_id(result.stdout))
    wait_until_finished(cluster, folder_of(tmp_path / "runs", *overrides))


def test_failed_run_fails_its_job_but_not_the_other_runs(cluster: Cluster, tmp_path: Path) -> None:
    overrides = ("model=mlp", "epochs=2")
    sweep = (*overrides, "-m", "seed=0,1,2", "hydra.launcher.runs_per_job=3")
    folders = [folder_of(tmp_path, *overrides, f"seed={seed}") for seed in range(3)]
    folders[1].record.mkdir(parents=True)  # a folder in place of the file
    job = submit(tmp_path, *sweep)
    cluster.wait_for_state(job, "FAILED", 240)
    expected = [Status.FINISHED, Status.FAILED, Status.FINISHED]
    assert [listed(folder).status for folder in folders] == expected
    text = python("-m", "accelerando.commands", "logs", folders[1].path).stdout
    assert re.search(r"failed  warmup_increase seed 1", text), text
    folders[1].record.rmdir()
    again = submit(tmp_path, *sweep)
    cluster.wait_for_state(again, "COMPLETED", 180)
    assert status_of(folders[1]) == Status.FINISHED


def test_two_nodes_train_one_run(cluster: Cluster, tmp_path: Path) -> None:
    overrides = ("model=mlp", "epochs=3", "scheduler.batch_size.initial=7")
    (settings,) = compose_runs([*overrides, "tracking=disabled", f"root={tmp_path}/single"])
    train(settings)
    single = RunFolder(run_folder(settings))
    submit(tmp_path, *overrides, "hardware.processes=2", "hydra.launcher.nodes=2")
    folder = folder_of(tmp_path, *overrides)
    wait_until_finished(cluster, folder)
    nodes = cluster.call("squeue", "-h", "-t", "all", "-o", "%D")
    assert "2" in nodes.split()
    for row, reference in zip(read_rows(folder.record), read_rows(single.record), strict=True):
        assert row == pytest.approx(reference, rel=1e-4)


def touch_file_of_task(folder: Path) -> None:
    """A task of a large array, which must start without importing torch."""
    assert "torch" not in sys.modules
    (folder / os.environ["SLURM_ARRAY_TASK_ID"]).touch()


def test_array_of_a_hundred_tasks(cluster: Cluster, tmp_path: Path) -> None:
    import cloudpickle
    import submitit

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    (tmp_path / "done").mkdir()
    task = ArrayTask([Job("light", tmp_path, partial(touch_file_of_task, tmp_path / "done"))])
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="slurm")
    executor.update_parameters(timeout_min=5, mem_gb=1)
    with executor.batch():
        jobs = [executor.submit(task) for _ in range(100)]
    assert len({job.job_id for job in jobs}) == 100
    cluster.wait_until(lambda: len(list((tmp_path / "done").iterdir())) == 100, 300)
