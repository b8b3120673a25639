"""The throw-away SLURM cluster: jobs, pretend GPUs, requeueing, preemption, power cuts."""

from __future__ import annotations

import re
from pathlib import Path

from cluster import Cluster, bring_up, dev_cluster
from requirements import missing

SLEEP = "echo start ${SLURM_RESTART_COUNT:-0}; exec sleep 100"


def output(tmp_path: Path) -> list[str]:
    """Options that keep what all starts of a job print in one file."""
    return ["--open-mode=append", f"--output={tmp_path}/%j.out"]


def test_all_nodes_are_idle(cluster: Cluster) -> None:
    assert [cluster.node_state(f"n{i}") for i in (1, 2, 3, 4)] == ["idle"] * 4


def test_a_job_sees_its_gpus(cluster: Cluster, tmp_path: Path) -> None:
    print_gpus = "echo $CUDA_VISIBLE_DEVICES"
    job = cluster.sbatch(print_gpus, "--gres=gpu:2", *output(tmp_path))
    cluster.wait_for_state(job, "COMPLETED")
    assert (tmp_path / f"{job}.out").read_text() == "0,1\n"


def test_the_tasks_of_an_array_have_states(cluster: Cluster) -> None:
    job = cluster.sbatch("exit $SLURM_ARRAY_TASK_ID", "--array=0-1", "--output=/dev/null")
    ended = {f"{job}_0": "COMPLETED", f"{job}_1": "FAILED"}
    cluster.wait_until(lambda: cluster.job_states([job]) == ended, 90)


def test_a_requeued_job_keeps_its_id(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.sbatch(SLEEP, *output(tmp_path))
    printed = tmp_path / f"{job}.out"
    cluster.wait_until(lambda: printed.exists() and "start" in printed.read_text(), 90)
    cluster.call("scontrol", "requeue", job)
    cluster.wait_until(lambda: "start 1" in printed.read_text(), 120, printed.read_text)
    assert printed.read_text().startswith("start 0\n")


def test_an_urgent_job_preempts(cluster: Cluster) -> None:
    where = ["--nodelist=n3", "--exclusive", "--output=/dev/null"]
    job = cluster.sbatch(SLEEP, *where)
    cluster.wait_for_state(job, "RUNNING")
    urgent = cluster.sbatch("sleep 1", "--partition=urgent", *where)
    cluster.wait_for_state(urgent, "COMPLETED")
    cluster.wait_for_state(job, "RUNNING", 120)
    assert "Restarts=1" in cluster.call("scontrol", "show", "job", job)


def test_a_power_cut_requeues(cluster: Cluster) -> None:
    options = ["--nodelist=n2", "--output=/dev/null"]
    # many: not one of them may be seen to be killed before its node is
    again = [cluster.sbatch(SLEEP, *options) for _ in range(7)]
    lost = cluster.sbatch(SLEEP, "--no-requeue", *options)
    for job in (*again, lost):
        cluster.wait_for_state(job, "RUNNING")
    cluster.kill("n2")
    cluster.wait_for_state(lost, "NODE_FAIL", 40)

    # asked of the jobs: the node's last word may arrive after it is set down, and bring it back
    def starts() -> list[str]:
        listed = cluster.call("squeue", "-h", "-O", "RestartCnt", "-j", ",".join(again))
        return listed.split()

    cluster.wait_until(lambda: len(starts()) == 7 and "0" not in starts(), 90, starts)
    assert set(cluster.job_states(again).values()) <= {"PENDING", "RUNNING", "COMPLETING"}
    assert re.search(r"^n2 +dead", dev_cluster("status", "--folder", cluster.folder).stdout, re.M)


def test_accounting_answers(cluster: Cluster) -> None:
    if not cluster.accounting:
        missing("slurm", "no accounting: apt install slurmdbd mariadb-server")
    job = cluster.sbatch("exit 3", "--output=/dev/null")
    command = ["sacct", "-n", "-X", "-P", "-o", "jobid,state,exitcode", "-j", job]
    cluster.wait_until(lambda: cluster.call(*command) == f"{job}|FAILED|3:0", 90)


def processes(folder: Path) -> list[str]:
    """Living processes that have to do with a folder: by their words or working folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().replace("\0", " ")
            if str(folder) in words or (process / "cwd").readlink().is_relative_to(folder):
                found.append(words)
        except OSError:
            continue
    return found


def test_down_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    bring_up(folder, "--no-accounting")
    other = Cluster(folder)
    job = other.sbatch(f"cd {folder}; exec sleep 1000", "--output=/dev/null")
    other.wait_for_state(job, "RUNNING")
    before = (folder / "pids" / "slurmctld").read_text()
    bring_up(folder)
    assert (folder / "pids" / "slurmctld").read_text() == before
    assert len(processes(folder)) >= 7
    for _ in range(2):
        assert dev_cluster("down", "--folder", folder).returncode == 0
        assert processes(folder) == []
        assert not folder.exists()
