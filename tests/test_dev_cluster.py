"""The disposable SLURM cluster: jobs, GPUs, requeueing, preemption and power failures."""

from __future__ import annotations

import re
from pathlib import Path

from requirements import missing
from slurm_cluster import Cluster, bring_up, dev_cluster

SLEEP = "echo start ${SLURM_RESTART_COUNT:-0}; exec sleep 100"


def output(tmp_path: Path) -> list[str]:
    """Return options that append what all starts of a job print to one file."""
    return ["--open-mode=append", f"--output={tmp_path}/%j.out"]


def test_all_nodes_are_idle(cluster: Cluster) -> None:
    assert [cluster.node_state(f"n{i}") for i in (1, 2, 3, 4)] == ["idle"] * 4


def test_job_sees_its_gpus(cluster: Cluster, tmp_path: Path) -> None:
    print_gpus = "echo $CUDA_VISIBLE_DEVICES"
    job = cluster.sbatch(print_gpus, "--gres=gpu:2", *output(tmp_path))
    cluster.wait_for_state(job, "COMPLETED")
    assert (tmp_path / f"{job}.out").read_text() == "0,1\n"


def test_each_array_task_has_its_own_state(cluster: Cluster) -> None:
    job = cluster.sbatch("exit $SLURM_ARRAY_TASK_ID", "--array=0-1", "--output=/dev/null")
    expected = {f"{job}_0": "COMPLETED", f"{job}_1": "FAILED"}
    cluster.wait_until(lambda: cluster.job_states([job]) == expected, 90)


def test_requeued_job_keeps_its_id(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.sbatch(SLEEP, *output(tmp_path))
    printed = tmp_path / f"{job}.out"
    cluster.wait_until(lambda: printed.exists() and "start" in printed.read_text(), 90)
    cluster.call("scontrol", "requeue", job)
    cluster.wait_until(lambda: "start 1" in printed.read_text(), 120, printed.read_text)
    assert printed.read_text().startswith("start 0\n")


def test_urgent_job_preempts(cluster: Cluster) -> None:
    options = ["--nodelist=n3", "--exclusive", "--output=/dev/null"]
    job = cluster.sbatch(SLEEP, *options)
    cluster.wait_for_state(job, "RUNNING")
    urgent = cluster.sbatch("sleep 1", "--partition=urgent", *options)
    cluster.wait_for_state(urgent, "COMPLETED")
    cluster.wait_for_state(job, "RUNNING", 120)
    assert "Restarts=1" in cluster.call("scontrol", "show", "job", job)


def test_power_failure_requeues_jobs(cluster: Cluster) -> None:
    options = ["--nodelist=n2", "--output=/dev/null"]
    # several jobs, none of which may report that it was killed before the node fails
    requeued = [cluster.sbatch(SLEEP, *options) for _ in range(7)]
    lost = cluster.sbatch(SLEEP, "--no-requeue", *options)
    for job in (*requeued, lost):
        cluster.wait_for_state(job, "RUNNING")
    cluster.kill("n2")
    cluster.wait_for_state(lost, "NODE_FAIL", 40)

    # ask for the jobs, not the node: a late message from the node may mark it as up again
    def restarts() -> list[str]:
        listed = cluster.call("squeue", "-h", "-O", "RestartCnt", "-j", ",".join(requeued))
        return listed.split()

    cluster.wait_until(lambda: len(restarts()) == 7 and "0" not in restarts(), 90, restarts)
    assert set(cluster.job_states(requeued).values()) <= {"PENDING", "RUNNING", "COMPLETING"}
    assert re.search(r"^n2 +dead", dev_cluster("status", "--folder", cluster.folder).stdout, re.M)


def test_accounting_reports_exit_codes(cluster: Cluster) -> None:
    if not cluster.accounting:
        missing("slurm", "no accounting: apt install slurmdbd mariadb-server")
    job = cluster.sbatch("exit 3", "--output=/dev/null")
    command = ["sacct", "-n", "-X", "-P", "-o", "jobid,state,exitcode", "-j", job]
    cluster.wait_until(lambda: cluster.call(*command) == f"{job}|FAILED|3:0", 90)


def processes_using(folder: Path) -> list[str]:
    """Return the command lines of processes that mention the folder or have it as their cwd."""
    command_lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command_line = (process / "cmdline").read_text().replace("\0", " ")
            if str(folder) in command_line or (process / "cwd").readlink().is_relative_to(folder):
                command_lines.append(command_line)
        except OSError:
            continue
    return command_lines


def test_down_stops_all(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    bring_up(folder, "--no-accounting")
    second = Cluster(folder)
    job = second.sbatch(f"cd {folder}; exec sleep 1000", "--output=/dev/null")
    second.wait_for_state(job, "RUNNING")
    controller = (folder / "pids" / "slurmctld").read_text()
    bring_up(folder)
    assert (folder / "pids" / "slurmctld").read_text() == controller
    assert len(processes_using(folder)) >= 7
    for _ in range(2):
        assert dev_cluster("down", "--folder", folder).returncode == 0
        assert processes_using(folder) == []
        assert not folder.exists()
