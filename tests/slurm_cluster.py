"""A real SLURM cluster for tests, started by the first test that uses it.

A test that takes the fixture ``cluster`` has the cluster for itself until it ends: it may fill the
queue or simulate power failures. The processes of pytest-xdist share one cluster.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from requirements import missing

DEV_CLUSTER = Path(__file__).parents[1] / "slurm" / "dev_cluster"


def dev_cluster(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``slurm/dev_cluster``."""
    command = [str(DEV_CLUSTER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def bring_up(folder: Path, *options: str) -> Path:
    """Start the cluster unless it is running; if it cannot start here, skip the test or fail it."""
    result = dev_cluster("up", "--folder", folder, *options)
    if result.returncode == os.EX_UNAVAILABLE:
        missing("slurm", result.stderr.strip().splitlines()[-1])
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"export SLURM_CONF={folder}/slurm.conf\n"
    return folder / "slurm.conf"


@contextmanager
def locked(path: Path, operation: int) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, operation)
        yield


@cache
def shared_cluster(base: Path) -> Path:
    """Return the folder of the cluster that all processes of this test session share.

    Each process holds a shared lock until it ends, however it ends. A separate process waits for an
    exclusive lock and then stops the cluster.
    """
    # file descriptors instead of file objects: they stay open until the process ends
    users = base / "slurm-users.lock"
    descriptor = os.open(users, os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    folder = base / "slurm"
    with locked(base / "slurm-up.lock", fcntl.LOCK_EX):
        if not folder.exists():
            bring_up(folder)
            stop = ["flock", users, DEV_CLUSTER, "down", "--folder", folder]
            devnull = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
            os.posix_spawnp("flock", stop, os.environ, file_actions=devnull, setsid=True)
    return folder


class Cluster:
    """SLURM's commands as methods. Job ids are strings: ``12``, or ``12_3`` for a task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    @property
    def accounting(self) -> bool:
        return (self.folder / "slurmdbd.conf").exists()

    def call(self, *command: object) -> str:
        """Return the output of a SLURM command, which must succeed."""
        result = subprocess.run(
            [str(argument) for argument in command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
        return result.stdout.strip()

    def sbatch(self, script: str, *options: str) -> str:
        """Submit the lines of a script and return the job id."""
        return self.call("sbatch", "--parsable", *options, "--wrap", script)

    def job_states(self, ids: Iterable[str]) -> dict[str, str]:
        """Return states such as RUNNING by job id, with a separate id for each array task."""
        options = ["--array", "--noheader", "--states=all"]
        lines = self.call("squeue", *options, "--format=%i %T", "--jobs=" + ",".join(ids))
        return dict(line.split() for line in lines.splitlines())

    def state(self, job: str) -> str:
        return self.job_states([job])[job]

    def wait_for_state(self, job: str, state: str, seconds: float = 90) -> None:
        self.wait_until(lambda: self.state(job) == state, seconds, lambda: self.state(job))

    def wait_until(
        self, condition: Callable[[], bool], seconds: float, describe: Callable[[], object] = str
    ) -> None:
        """Wait for ``condition()``; on timeout fail with what ``describe()`` returns."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s: {describe()}"
            time.sleep(0.1)

    def release(self, job: str) -> None:
        """Start a job that was submitted with a later begin time."""
        self.call("scontrol", "update", f"JobId={job}", "StartTime=now")

    def node_state(self, node: str) -> str:
        return self.call("sinfo", "-h", "-n", node, "-p", "main", "-o", "%T")

    def kill(self, node: str) -> None:
        """Simulate a power failure of a node; it is started again when the test ends."""
        assert dev_cluster("kill", node, "--folder", self.folder).returncode == 0
        # slurmctld would notice by itself, but only after half a minute
        self.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=power")

    def clear(self) -> None:
        """Cancel all jobs and start dead nodes again, for the next test."""
        self.call("scancel", "--me")
        self.wait_until(lambda: not self.call("squeue", "-h"), 90)
        bring_up(self.folder)


@pytest.fixture
def cluster(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A SLURM cluster that the test has for itself; commands that it starts use it too."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    shared = Cluster(shared_cluster(base))
    monkeypatch.setenv("SLURM_CONF", shared.environment["SLURM_CONF"])
    with locked(base / "slurm-turn.lock", fcntl.LOCK_EX):
        yield shared
        shared.clear()
