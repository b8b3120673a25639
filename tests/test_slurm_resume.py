"""Runs on a real SLURM cluster resume bitwise identically after they were interrupted or killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import accelerando
import wandb_files
from accelerando.runs.folder import RunFolder, Status
from helpers import ROOT, identical, start_process
from slurm_cluster import Cluster
from slurm_runs import (
    LONG,
    ON_SLURM,
    completed_epochs,
    folder_of,
    listed,
    python,
    statuses_until,
    submit,
    wait_until_finished,
)
from wandb_files import offline_files
from wandb_runs import mirrored_rows, recorded_rows

SLOW_FIRST_START = """
import os, sys, threading, time

def slow_down():
    while not hasattr(sys.modules.get("accelerando.training.loop"), "Loop"):
        time.sleep(0.05)
    loop = sys.modules["accelerando.training.loop"].Loop
    measure = loop._measure
    loop._measure = lambda self: (time.sleep(0.3), measure(self))

if "SLURM_RESTART_COUNT" not in os.environ:
    threading.Thread(target=slow_down, daemon=True).start()
"""
"""A ``sitecustomize`` with which the first start of a job lasts until its time limit."""


def shortest_time_limit(folder: Path) -> list[str]:
    """Return overrides for SLURM's shortest time limit; SLURM checks limits every 30 s."""
    (folder / "sitecustomize.py").write_text(SLOW_FIRST_START)
    return [
        "checkpoint.seconds=5",
        "hydra.launcher.timeout_min=1",
        "hydra.launcher.signal_delay_s=50",
        f"hydra.launcher.setup=['export PYTHONPATH={folder}:$PYTHONPATH']",
    ]


def fail_first_requeue(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the first ``scontrol requeue`` of each job fail, as if the controller were down.

    Each failure leaves a folder in ``folder``.
    """
    folder.mkdir()
    real = shutil.which("scontrol")
    is_first = f'[ "$1" = requeue ] && mkdir "{folder}/$2" 2>/dev/null'
    (folder / "scontrol").write_text(f'#!/bin/sh\n{is_first} && exit 1\nexec {real} "$@"\n')
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def node_of(cluster: Cluster, job: str) -> str:
    return cluster.call("squeue", "-h", "-j", job, "-o", "%N")


def requeue(cluster: Cluster, job: str) -> None:
    cluster.call("scontrol", "requeue", job)


def preempt(cluster: Cluster, job: str) -> None:
    """Submit a job with priority to the node of ``job``."""
    node = f"--nodelist={node_of(cluster, job)}"
    cluster.sbatch("sleep 1", "--partition=urgent", "--exclusive", node)


def cut_power(cluster: Cluster, job: str) -> None:
    cluster.kill(node_of(cluster, job))


def reach_time_limit(cluster: Cluster, job: str) -> None:
    """Do nothing: SLURM signals the job before its time limit."""


INTERRUPTIONS = {
    requeue: "nodelist: n1",
    preempt: "nodelist: n2",
    cut_power: "exclude: 'n1,n2'",
    reach_time_limit: "nodelist: n1",
}
"""Nodes on which the interruptions do not affect each other, so that all can happen at once."""


def test_interrupted_runs_resume_bitwise_identically(
    cluster: Cluster, tmp_path: Path, uninterrupted: RunFolder
) -> None:
    overrides = [*LONG, "tracking=offline"]
    roots = {interrupt: tmp_path / interrupt.__name__ for interrupt in INTERRUPTIONS}
    folders = {interrupt: folder_of(root, *overrides) for interrupt, root in roots.items()}
    jobs = {}
    for interrupt, nodes in INTERRUPTIONS.items():
        more = shortest_time_limit(tmp_path) if interrupt is reach_time_limit else []
        options = f"hydra.launcher.additional_parameters={{begin: now+1hour, {nodes}}}"
        jobs[interrupt] = submit(roots[interrupt], *overrides, *more, options)
        assert listed(folders[interrupt]).status == Status.PENDING
    for job in jobs.values():
        cluster.release(job)
    statuses = {}
    for interrupt, folder in folders.items():
        cluster.wait_until(lambda at=folder: completed_epochs(at) > 3, 180)
        # on a slow machine the time limit comes before its turn here
        assert interrupt is reach_time_limit or listed(folder).status == Status.RUNNING
        interrupt(cluster, jobs[interrupt])
        statuses[interrupt] = statuses_until(cluster, folder, Status.REQUEUED)
    for interrupt, folder in folders.items():
        statuses[interrupt] += statuses_until(cluster, folder, Status.FINISHED)
        assert Status.FAILED not in statuses[interrupt], (interrupt, statuses[interrupt])
        assert "Restarts=0" not in cluster.call("scontrol", "show", "job", jobs[interrupt])
        assert identical(folder, uninterrupted), interrupt
        check_single_wandb_run(folder)


def check_single_wandb_run(folder: RunFolder) -> None:
    """Check that the log reports the resume, and that W&B has one run with every row."""
    text = python("-m", "accelerando.commands", "logs", folder.path).stdout
    assert re.search(r"resuming from epoch [1-9]", text), text
    records = [record for file in offline_files(folder) for record in wandb_files.records(file)]
    ids = {r.run.run_id for r in records if r.HasField("run")}
    assert len(ids) == 1
    assert mirrored_rows(folder) == recorded_rows(folder)


def test_cancelled_run_does_not_return(cluster: Cluster, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, *LONG)
    job = submit(tmp_path, *LONG)
    cluster.wait_until(lambda: completed_epochs(folder) > 3, 180)
    cluster.call("scancel", job)
    cluster.wait_until(lambda: not cluster.call("squeue", "-h"), 90)
    time.sleep(2)
    assert cluster.call("squeue", "-h") == ""
    run = listed(folder)
    assert run.status == Status.INTERRUPTED
    assert "by SIGTERM" in run.details
    if cluster.accounting:
        cluster.wait_until(lambda: "CANCELLED" in listed(folder).details, 90)


def test_runs_that_share_a_job_resume_together(
    cluster: Cluster, tmp_path: Path, uninterrupted: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_first_requeue(tmp_path / "bin", monkeypatch)
    # without regular checkpoints: only the signal, which every process of the job gets, saves
    overrides = [override for override in LONG if not override.startswith("checkpoint")]
    folders = [folder_of(tmp_path, *overrides, f"seed={seed}") for seed in range(2)]
    job = submit(tmp_path, *overrides, "-m", "seed=0,1", "hydra.launcher.runs_per_job=2")
    cluster.wait_until(lambda: min(map(completed_epochs, folders)) > 3, 180)
    cluster.call("scancel", "--signal=USR2", job)  # as before the time limit
    cluster.wait_until(lambda: cluster.state(job) == "PENDING", 120, lambda: cluster.state(job))
    for folder in folders:
        state = folder.read_state()
        assert state is not None
        assert (state.status, state.epoch > 3) == (Status.INTERRUPTED, True)
    # on a busy machine the runs may have started again before their status is read
    expected = {Status.REQUEUED, Status.STARTING, Status.RUNNING}
    assert {listed(folder).status for folder in folders} <= expected
    wait_until_finished(cluster, *folders)
    assert identical(folders[0], uninterrupted)
    text = python("-m", "accelerando.commands", "logs", folders[0].path).stdout
    assert re.search(r"interrupted  warmup_increase seed 0  by SIG(TERM|USR2)", text), text
    assert "could not requeue the job" in text


SLEEP_BEFORE_HANDLER = """
import os, sys, time

job = os.environ.get("SLURM_JOB_ID")
requeues = "accelerando.launch.requeue" in sys.orig_argv
if job and not requeues and "SLURM_RESTART_COUNT" not in os.environ:
    expands = "expand" in sys.orig_argv
    if expands == (os.environ.get("SLURM_ARRAY_TASK_ID") == "1"):
        open(f"{os.environ['SLEEPING']}/{job}", "w").close()
        time.sleep(3 if expands else 100)
"""
"""A ``sitecustomize`` that delays a job's first start before its signal handlers are installed."""


def test_job_that_is_signalled_before_its_handler_is_installed_is_requeued(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a submitted job, in the run of a plain array, and in ``accelerando expand`` before it."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "sitecustomize.py").write_text(SLEEP_BEFORE_HANDLER)
    (tmp_path / "sleeping").mkdir()
    source = Path(accelerando.__file__).parents[1]
    environment = {
        "SLEEPING": f"{tmp_path}/sleeping",
        "PYTHONPATH": f"{tmp_path}:{source}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "WANDB_MODE": "disabled",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    overrides = ("model=mlp", "epochs=2")
    submitted = submit(tmp_path, *overrides, "seed=2")
    fail_first_requeue(tmp_path / "bin", monkeypatch)
    export = "--export=ALL," + ",".join(f"{name}={os.environ[name]}" for name in environment)
    options = ("--array=0-1", export, f"--output={tmp_path}/%A_%a.out")
    sweep = (*overrides, "seed=0,1", "hardware=slurm_cpu", f"root={tmp_path}")
    array = cluster.call("sbatch", "--parsable", *options, "slurm/array.sbatch", *sweep)
    cluster.wait_until(lambda: len(list((tmp_path / "sleeping").iterdir())) == 3, 90)
    cluster.call("scancel", "--signal=USR2", submitted)
    cluster.call("scancel", "--batch", "--signal=USR2", array)
    folders = [folder_of(tmp_path, *overrides, f"seed={seed}") for seed in range(3)]
    wait_until_finished(cluster, *folders)
    for job in (submitted, f"{array}_0", f"{array}_1"):
        assert "Restarts=1" in cluster.call("scontrol", "show", "job", job)
    # scontrol itself, and the failed attempt of each task of the array
    assert len(list((tmp_path / "bin").iterdir())) == 1 + 2


def test_waiting_for_a_sweep_ends_when_a_job_is_killed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*ON_SLURM, *LONG, "hydra.launcher.wait=true", f"root={tmp_path}"]
    process = start_process(
        [sys.executable, str(ROOT / "train.py"), *overrides], stderr=subprocess.PIPE, text=True
    )
    folder = folder_of(tmp_path, *LONG)
    cluster.wait_until(lambda: completed_epochs(folder) > 3, 180)
    state = folder.read_state()
    assert state is not None
    os.kill(state.environment["pid"], signal.SIGKILL)
    _, text = process.communicate(timeout=180)
    assert process.returncode == 1, text
    assert "1 failed" in text
    if cluster.accounting:
        cluster.wait_until(lambda: listed(folder).details.startswith("FAILED, job "), 90)
    # the same without sacct
    (tmp_path / "squeue").symlink_to(shutil.which("squeue") or "")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        run = listed(folder)
    assert (run.status, run.reason) == (Status.FAILED, "no longer in SLURM's queue")
