"""Runs on a real SLURM, disturbed in every way, and still themselves."""

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
import offline
from accelerando.runs.folder import RunFolder, Status
from cluster import Cluster
from conftest import ROOT, begin
from slurm_runs import (
    LONG,
    ON_SLURM,
    epochs_of,
    finish,
    folder_of,
    python,
    seen,
    stages,
    submit,
)
from test_run import same
from test_wandb import mirrored, rows

SLOW = """
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
"""Python imports this at its start: a job lasts until its end is announced, at no cost."""


def limits(tmp_path: Path) -> list[str]:
    """SLURM's shortest; it looks every half a minute whether an end is to be announced."""
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    return [
        "checkpoint.seconds=5",
        "hydra.launcher.timeout_min=1",
        "hydra.launcher.signal_delay_s=50",
        f"hydra.launcher.setup=['export PYTHONPATH={tmp_path}:$PYTHONPATH']",
    ]


def fail_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a job's first attempt to be put back meet a controller that does not answer."""
    folder.mkdir()
    real = shutil.which("scontrol")
    attempt = f'[ "$1" = requeue ] && mkdir "{folder}/$2" 2>/dev/null'
    (folder / "scontrol").write_text(f'#!/bin/sh\n{attempt} && exit 1\nexec {real} "$@"\n')
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def node_of(cluster: Cluster, job: str) -> str:
    return cluster.call("squeue", "-h", "-j", job, "-o", "%N")


def requeued(cluster: Cluster, job: str) -> None:
    cluster.call("scontrol", "requeue", job)


def preempted(cluster: Cluster, job: str) -> None:
    """By a job of a higher partition that takes its node for a moment."""
    node = f"--nodelist={node_of(cluster, job)}"
    cluster.sbatch("sleep 1", "--partition=urgent", "--exclusive", node)


def without_power(cluster: Cluster, job: str) -> None:
    """The node of a job dies, and everything on it."""
    cluster.kill(node_of(cluster, job))


def out_of_time(cluster: Cluster, job: str) -> None:
    """SLURM sees to it."""


NODES = {
    requeued: "nodelist: n1",
    preempted: "nodelist: n2",
    without_power: "exclude: 'n1,n2'",
    out_of_time: "nodelist: n1",
}
"""Where no other disturbance comes: so all can be at once, and nobody waits for a time limit."""


def test_disturbed_runs_are_what_they_would_have_been(
    cluster: Cluster, tmp_path: Path, undisturbed: RunFolder
) -> None:
    words = [*LONG, "tracking=offline"]
    roots = {disturb: tmp_path / disturb.__name__ for disturb in NODES}
    folders = {disturb: folder_of(root, *words) for disturb, root in roots.items()}
    jobs = {}
    for disturb, nodes in NODES.items():
        more = limits(tmp_path) if disturb is out_of_time else []
        held = f"hydra.launcher.additional_parameters={{begin: now+1hour, {nodes}}}"
        jobs[disturb] = submit(roots[disturb], *words, *more, held)
        assert seen(folders[disturb]).status == Status.PENDING
    for job in jobs.values():
        cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")
    told = {}
    for disturb, folder in folders.items():
        cluster.wait_until(lambda at=folder: epochs_of(at) > 3, 180)
        assert seen(folder).status == Status.RUNNING
        disturb(cluster, jobs[disturb])
        told[disturb] = stages(cluster, folder, Status.REQUEUED)
    for disturb, folder in folders.items():
        told[disturb] += stages(cluster, folder, Status.FINISHED)
        assert Status.FAILED not in told[disturb], (disturb, told[disturb])
        assert "Restarts=0" not in cluster.call("scontrol", "show", "job", jobs[disturb])
        assert same(folder, undisturbed), disturb
        went_on_as_one(folder)


def went_on_as_one(folder: RunFolder) -> None:
    """Its log says where it went on, and W&B has one run with every row."""
    text = python("-m", "accelerando.commands", "logs", folder.path).stdout
    assert re.search(r"earlier, resuming from epoch [1-9]", text), text
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
    assert run.status == Status.INTERRUPTED
    assert "by SIGTERM" in run.details
    if cluster.accounting:
        cluster.wait_until(lambda: "CANCELLED" in seen(folder).details, 90)


def test_runs_that_share_a_job_come_back_together(
    cluster: Cluster, tmp_path: Path, undisturbed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(tmp_path / "bin", monkeypatch)
    # saved at the signal alone, which every process of the job gets
    words = [word for word in LONG if not word.startswith("checkpoint")]
    folders = [folder_of(tmp_path, *words, f"seed={seed}") for seed in range(2)]
    job = submit(tmp_path, *words, "-m", "seed=0,1", "hydra.launcher.runs_per_job=2")
    cluster.wait_until(lambda: min(map(epochs_of, folders)) > 3, 180)
    cluster.call("scancel", "--signal=USR2", job)  # as at the end of its time
    cluster.wait_until(lambda: cluster.state(job) == "PENDING", 120, lambda: cluster.state(job))
    for folder in folders:
        state = folder.read_state()
        assert state is not None
        assert (state.status, state.epoch > 3) == (Status.INTERRUPTED, True)
    # on a busy machine they may have begun again before they are looked at
    assert {seen(folder).status for folder in folders} <= {
        Status.REQUEUED,
        Status.STARTING,
        Status.RUNNING,
    }
    finish(cluster, *folders)
    assert same(folders[0], undisturbed)
    text = python("-m", "accelerando.commands", "logs", folders[0].path).stdout
    assert re.search(r"interrupted  warmup_increase seed 0  by SIG(TERM|USR2)", text), text
    assert "could not requeue the job" in text


YOUNG = """
import os, sys, time

job = os.environ.get("SLURM_JOB_ID")
requeues = "accelerando.launch.requeue" in sys.orig_argv
if job and not requeues and "SLURM_RESTART_COUNT" not in os.environ:
    expands = "expand" in sys.orig_argv
    if expands == (os.environ.get("SLURM_ARRAY_TASK_ID") == "1"):
        open(f"{os.environ['YOUNG']}/{job}", "w").close()
        time.sleep(3 if expands else 100)
"""
"""Python imports this at its start: a job stays for a while where it does not listen to signals."""


def test_a_job_that_is_told_to_stop_before_it_listens_comes_back(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitted; or of a plain array, in whose script it is, or in what finds its words."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "sitecustomize.py").write_text(YOUNG)
    (tmp_path / "young").mkdir()
    root = Path(accelerando.__file__).parents[1]
    told = {
        "YOUNG": f"{tmp_path}/young",
        "PYTHONPATH": f"{tmp_path}:{root}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "WANDB_MODE": "disabled",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    words = ("model=mlp", "epochs=2")
    alone = submit(tmp_path, *words, "seed=2")
    fail_once(tmp_path / "bin", monkeypatch)
    export = "--export=ALL," + ",".join(f"{name}={os.environ[name]}" for name in told)
    array = ("--array=0-1", export, f"--output={tmp_path}/%A_%a.out", "slurm/array.sbatch")
    more = (*words, "seed=0,1", "hardware=slurm_cpu", f"root={tmp_path}")
    plain = cluster.call("sbatch", "--parsable", *array, *more)
    cluster.wait_until(lambda: len(list((tmp_path / "young").iterdir())) == 3, 90)
    cluster.call("scancel", "--signal=USR2", alone)
    cluster.call("scancel", "--batch", "--signal=USR2", plain)
    finish(cluster, *[folder_of(tmp_path, *words, f"seed={seed}") for seed in range(3)])
    for job in (alone, f"{plain}_0", f"{plain}_1"):
        assert "Restarts=1" in cluster.call("scontrol", "show", "job", job)
    assert len(list((tmp_path / "bin").iterdir())) == 1 + 2  # attempts that failed


def test_waiting_for_a_sweep_notices_a_job_that_was_killed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    if cluster.accounting:
        cluster.wait_until(lambda: seen(folder).details.startswith("FAILED, job "), 90)
    # where there is no sacct
    (tmp_path / "squeue").symlink_to(shutil.which("squeue") or "")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        run = seen(folder)
    assert (run.status, run.reason) == (Status.FAILED, "no longer in SLURM's queue")
