"""Runs on a real SLURM: submitted and left, disturbed in every way, and still themselves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import offline
from accelerando.composition import runs_of
from accelerando.identity import run_folder
from accelerando.launch.array_task import ArrayTask
from accelerando.launch.joined import PENDING, REQUEUED, with_jobs
from accelerando.launch.pool import Job
from accelerando.tracking.folder import FAILED, FINISHED, INTERRUPTED, RunFolder
from accelerando.tracking.overview import Seen, runs_below
from cluster import Cluster
from conftest import ROOT, begin
from test_run import lines, same, train
from test_wandb import mirrored, rows

LONG = ("model=mlp", "epochs=300", "checkpoint.epochs=1", "tracking.every=200")
"""Long enough to be met on its way."""
ON_SLURM = ("hardware=slurm_cpu", "hydra.launcher.mem_gb=1")


def python(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """A command of the product's, as a user gives it; submitted runs mirror offline."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "WANDB_MODE": "offline", **more},
        capture_output=True,
        text=True,
        timeout=300,
    )


def submit(root: Path, *words: str) -> str:
    """Submit runs and return the job's id."""
    result = python(ROOT / "train.py", *ON_SLURM, *words, f"root={root}")
    assert result.returncode == 0, result.stderr
    (job,) = re.findall(r"^submitted job (\d+)", result.stdout)
    return str(job)


def folder_of(root: Path, *words: str) -> RunFolder:
    (config,) = runs_of([*words, f"root={root}"])
    return RunFolder(run_folder(config))


def epochs_of(folder: RunFolder) -> int:
    state = folder.read_state()
    return 0 if state is None else state.epoch


def status_of(folder: RunFolder) -> str:
    state = folder.read_state()
    return "none" if state is None else state.status


def finish(cluster: Cluster, *folders: RunFolder, seconds: float = 240) -> None:
    """Wait until runs have finished."""
    cluster.wait_until(
        lambda: all(status_of(folder) == FINISHED for folder in folders),
        seconds,
        lambda: cluster.call("sacct", "-D", "-X"),
    )


def seen(folder: RunFolder) -> Seen:
    (run,) = with_jobs(runs_below(folder.path))
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run that nothing disturbs."""
    (config,) = runs_of([*LONG, "tracking=disabled", f"root={tmp_path_factory.mktemp('whole')}"])
    train(config)
    return RunFolder(run_folder(config))


def test_a_sweep_is_submitted_and_left(cluster: Cluster, tmp_path: Path) -> None:
    words = ("-m", "scheduler=glob(*)", "seed=0,1,2", "model=mlp", "epochs=2")
    # held back until it was seen that a second call leaves them alone
    job = submit(tmp_path, *words, "hydra.launcher.additional_parameters={begin: now+1hour}")
    again = python(ROOT / "train.py", *ON_SLURM, *words, f"root={tmp_path}")
    assert "12 of 12 are in SLURM's queue already" in again.stderr
    assert "submitted" not in again.stdout
    cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")
    runs = runs_of([*words[1:], f"root={tmp_path}"])
    assert len(runs) == 12
    finish(cluster, *[RunFolder(run_folder(config)) for config in runs])
    states = cluster.job_states([job])
    cluster.wait_until(lambda: set(cluster.job_states([job]).values()) == {"COMPLETED"}, 90)
    assert len(states) == 12
    again = python(ROOT / "train.py", *ON_SLURM, *words, f"root={tmp_path}")
    assert "12 of 12 runs have ended already" in again.stderr
    assert again.stdout == ""


SLOW = """
import sys, threading, time

def slow_down():
    while not hasattr(sys.modules.get("accelerando.training.loop"), "Loop"):
        time.sleep(0.05)
    loop = sys.modules["accelerando.training.loop"].Loop
    measure = loop._measure
    loop._measure = lambda self: (time.sleep(0.15), measure(self))

threading.Thread(target=slow_down, daemon=True).start()
"""
"""Python imports this at its start: a run lasts a minute, at no cost to the machine."""


def limits(tmp_path: Path) -> list[str]:
    """SLURM's shortest; it looks every half a minute whether an end is to be announced."""
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    return [
        "checkpoint.seconds=5",
        "hydra.launcher.timeout_min=1",
        "hydra.launcher.signal_delay_s=20",
        f"hydra.launcher.setup=['export PYTHONPATH={tmp_path}:$PYTHONPATH']",
    ]


def requeued(cluster: Cluster, job: str) -> None:
    cluster.call("scontrol", "requeue", job)


def preempted(cluster: Cluster, job: str) -> None:
    """By a job of a higher partition that takes all nodes for a moment."""
    cluster.sbatch("sleep 1", "--partition=urgent", "--nodes=4", "--exclusive")
    cluster.wait_until(lambda: cluster.state(job) == "PENDING", 90, lambda: cluster.state(job))


def out_of_time(cluster: Cluster, job: str) -> None:
    """SLURM looks every half a minute whether a job's end is to be announced."""
    cluster.wait_until(lambda: cluster.state(job) == "PENDING", 120, lambda: cluster.state(job))


def without_power(cluster: Cluster, job: str) -> None:
    """The node of a job dies, and everything on it."""
    node = cluster.call("squeue", "-h", "-j", job, "-o", "%N")
    cluster.kill(node)
    cluster.wait_until(lambda: cluster.state(job) != "RUNNING", 120, lambda: cluster.state(job))


@pytest.mark.parametrize("disturbed", [requeued, preempted, out_of_time, without_power])
def test_a_disturbed_run_is_what_it_would_have_been(
    disturbed: Callable[[Cluster, str], None], cluster: Cluster, tmp_path: Path, whole: RunFolder
) -> None:
    words = [*LONG, "tracking=offline"]
    more = limits(tmp_path) if disturbed is out_of_time else []
    folder = folder_of(tmp_path, *words)
    job = submit(tmp_path, *words, *more)
    assert seen(folder).status in (PENDING, "starting", "running")
    cluster.wait_until(lambda: epochs_of(folder) > 3, 180)
    disturbed(cluster, job)
    finish(cluster, folder)
    assert same(folder, whole)
    assert "Restarts=0" not in cluster.call("scontrol", "show", "job", job)
    text = python("-m", "accelerando.commands", "logs", folder.path).stdout
    assert re.search(r"earlier, going on from epoch [1-9]", text), text
    files = sorted(folder.path.glob("wandb/offline-run-*/*.wandb"))
    ids = {r.run.run_id for f in files for r in offline.records(f) if r.HasField("run")}
    assert len(ids) == 1
    assert mirrored(folder) == rows(folder)


def test_a_cancelled_run_does_not_come_back(cluster: Cluster, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, *LONG)
    job = submit(tmp_path, *LONG)
    cluster.wait_until(lambda: epochs_of(folder) > 3, 180)
    cluster.call("scancel", job)
    cluster.wait_until(lambda: not cluster.call("squeue", "-h"), 90)
    time.sleep(2)
    assert cluster.call("squeue", "-h") == ""
    run = seen(folder)
    assert run.status == INTERRUPTED
    assert "by SIGTERM" in run.words
    if cluster.accounting:
        cluster.wait_until(lambda: "CANCELLED" in seen(folder).words, 90)


def test_a_run_that_failed_is_a_failed_job_and_does_not_end_its_neighbours(
    cluster: Cluster, tmp_path: Path
) -> None:
    words = ("model=mlp", "epochs=2")
    folders = [folder_of(tmp_path, *words, f"seed={seed}") for seed in range(3)]
    folders[1].record.mkdir(parents=True)  # where a file should be
    job = submit(tmp_path, *words, "-m", "seed=0,1,2", "hydra.launcher.runs_per_job=3")
    cluster.wait_for_state(job, "FAILED", 240)
    assert [status_of(folder) for folder in folders] == [FINISHED, FAILED, FINISHED]
    text = python("-m", "accelerando.commands", "logs", folders[1].path).stdout
    assert "2 of 3" not in text
    assert re.search(r"failed  warmup_increase seed 1", text), text
    folders[1].record.rmdir()
    again = submit(tmp_path, *words, "-m", "seed=0,1,2", "hydra.launcher.runs_per_job=3")
    cluster.wait_for_state(again, "COMPLETED", 180)
    assert status_of(folders[1]) == FINISHED


def test_runs_that_share_a_job_come_back_together(
    cluster: Cluster, tmp_path: Path, whole: RunFolder
) -> None:
    # saved at the signal alone, which every process of the job gets
    words = [word for word in LONG if not word.startswith("checkpoint")]
    folders = [folder_of(tmp_path, *words, f"seed={seed}") for seed in range(2)]
    job = submit(tmp_path, *words, "-m", "seed=0,1", "hydra.launcher.runs_per_job=2")
    cluster.wait_until(lambda: min(map(epochs_of, folders)) > 3, 180)
    cluster.call("scancel", "--signal=USR2", job)  # as at the end of its time
    out_of_time(cluster, job)
    for folder in folders:
        state = folder.read_state()
        assert state is not None
        assert (state.status, state.epoch > 3) == (INTERRUPTED, True)
    # on a busy machine they may have begun again before they are looked at
    assert {seen(folder).status for folder in folders} <= {REQUEUED, "starting", "running"}
    finish(cluster, *folders)
    assert same(folders[0], whole)
    text = python("-m", "accelerando.commands", "logs", folders[0].path).stdout
    assert re.search(r"interrupted  warmup_increase seed 0  by SIG(TERM|USR2)", text), text


def test_squeue_that_is_silent_lets_nothing_be_submitted_twice(
    cluster: Cluster, tmp_path: Path
) -> None:
    words = [*ON_SLURM, "model=mlp", "epochs=2", f"root={tmp_path}/runs"]
    held = "hydra.launcher.additional_parameters={begin: now+1hour}"
    assert python(ROOT / "train.py", *words, held).returncode == 0
    (tmp_path / "squeue").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    result = python(ROOT / "train.py", *words, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 1
    assert "squeue does not answer whether they still wait" in result.stderr
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
    assert "1 of 1 are in SLURM's queue already" in again.stderr
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


def test_settings_are_those_that_were_submitted(cluster: Cluster, tmp_path: Path) -> None:
    """Not what their files say when the job begins."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "train.py", tmp_path)
    held = "hydra.launcher.additional_parameters={begin: now+1hour}"
    words = ("model=mlp", "epochs=1")
    result = python(tmp_path / "train.py", *ON_SLURM, *words, held, f"root={tmp_path}/runs")
    assert result.returncode == 0, result.stderr
    path = tmp_path / "conf" / "model" / "mlp.yaml"
    path.write_text(re.sub(r"widths: .*", "widths: [3]", path.read_text()))
    (job,) = re.findall(r"^submitted job (\d+)", result.stdout)
    cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")
    finish(cluster, folder_of(tmp_path / "runs", *words))


def test_waiting_for_a_sweep_notices_a_job_that_was_killed(
    cluster: Cluster, tmp_path: Path
) -> None:
    command = [*ON_SLURM, *LONG, "hydra.launcher.wait=true", f"root={tmp_path}"]
    process = begin(
        [sys.executable, str(ROOT / "train.py"), *command], stderr=subprocess.PIPE, text=True
    )
    folder = folder_of(tmp_path, *LONG)
    cluster.wait_until(lambda: epochs_of(folder) > 3, 180)
    state = folder.read_state()
    assert state is not None
    os.kill(state.environment["pid"], signal.SIGKILL)
    _, text = process.communicate(timeout=180)
    assert process.returncode == 1, text
    assert "1 failed" in text


def test_two_nodes_train_one_run(cluster: Cluster, tmp_path: Path) -> None:
    words = ("model=mlp", "epochs=3", "scheduler.batch_size.initial=7")
    (config,) = runs_of([*words, "tracking=disabled", f"root={tmp_path}/alone"])
    train(config)
    submit(tmp_path, *words, "hardware.processes=2", "hydra.launcher.nodes=2")
    folder, alone = folder_of(tmp_path, *words), RunFolder(run_folder(config))
    finish(cluster, folder)
    nodes = cluster.call("squeue", "-h", "-t", "all", "-o", "%D")
    assert "2" in nodes.split()
    for one, other in zip(lines(folder.record), lines(alone.record), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def say(folder: Path) -> None:
    """A task of a large array: too light for torch."""
    assert "torch" not in sys.modules
    (folder / os.environ["SLURM_ARRAY_TASK_ID"]).touch()


def test_an_array_of_a_hundred_tasks(cluster: Cluster, tmp_path: Path) -> None:
    from functools import partial

    import cloudpickle
    import submitit

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    (tmp_path / "done").mkdir()
    task = ArrayTask([Job("light", tmp_path, partial(say, tmp_path / "done"))])
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="slurm")
    executor.update_parameters(timeout_min=5, mem_gb=1)
    with executor.batch():
        jobs = [executor.submit(task) for _ in range(100)]
    assert len({job.job_id for job in jobs}) == 100
    cluster.wait_until(lambda: len(list((tmp_path / "done").iterdir())) == 100, 300)
