"""A real SLURM cluster for tests: started once, by the first test of any process that asks.

A test takes the fixture ``cluster`` and has the cluster to itself until it ends: it may fill it,
or cut the power of a node. Processes of pytest-xdist share one cluster.
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
def locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, kind)
        yield


@cache
def shared_cluster(base: Path) -> Path:
    """The folder of the cluster that all processes of this test session share.

    Each process holds a shared lock for as long as it lives, however it dies; a process apart
    waits for the lock to be nobody's and then stops the cluster.
    """
    # numbers, not objects: they live until the process ends
    users = base / "slurm-users.lock"
    holding = os.open(users, os.O_CREAT | os.O_RDWR)
    fcntl.flock(holding, fcntl.LOCK_SH)
    folder = base / "slurm"
    with locked(base / "slurm-up.lock", fcntl.LOCK_EX):
        if not folder.exists():
            bring_up(folder)
            stop = ["flock", users, DEV_CLUSTER, "down", "--folder", folder]
            nowhere = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
            os.posix_spawnp("flock", stop, os.environ, file_actions=nowhere, setsid=True)
    return folder


class Cluster:
    """The commands of SLURM, as tests need them. Job ids are text: ``12``, or ``12_3``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    @property
    def accounting(self) -> bool:
        return (self.folder / "slurmdbd.conf").exists()

    def call(self, *command: object) -> str:
        """What a SLURM command prints; it must succeed."""
        result = subprocess.run(
            [str(word) for word in command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
        return result.stdout.strip()

    def sbatch(self, script: str, *options: str) -> str:
        """Submit the lines of a script; returns the job id."""
        return self.call("sbatch", "--parsable", *options, "--wrap", script)

    def job_states(self, ids: Iterable[str]) -> dict[str, str]:
        """States such as RUNNING by job id; those of an array's tasks by ``id_index``."""
        form = ["--array", "--noheader", "--states=all"]
        lines = self.call("squeue", *form, "--format=%i %T", "--jobs=" + ",".join(ids))
        return dict(line.split() for line in lines.splitlines())

    def state(self, job: str) -> str:
        return self.job_states([job])[job]

    def wait_for_state(self, job: str, state: str, seconds: float = 90) -> None:
        self.wait_until(lambda: self.state(job) == state, seconds, lambda: self.state(job))

    def wait_until(
        self, true: Callable[[], bool], seconds: float, notify: Callable[[], object] = str
    ) -> None:
        """Return when ``true()``; fail, with what ``notify()`` returns, when time is up."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"not within {seconds} s: {notify()}"
            time.sleep(0.1)

    def node_state(self, node: str) -> str:
        return self.call("sinfo", "-h", "-n", node, "-p", "main", "-o", "%T")

    def kill(self, node: str) -> None:
        """Cut the power of a node; it is back at the end of the test at the latest."""
        assert dev_cluster("kill", node, "--folder", self.folder).returncode == 0
        # slurmctld would see it for itself, but half a minute later
        self.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=power")

    def clear(self) -> None:
        """Leave no job and no dead node to the next test."""
        self.call("scancel", "--me")
        self.wait_until(lambda: not self.call("squeue", "-h"), 90)
        bring_up(self.folder)


@pytest.fixture
def cluster(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A SLURM cluster of the test's own until it ends, also for commands that it runs."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    found = Cluster(shared_cluster(base))
    monkeypatch.setenv("SLURM_CONF", found.environment["SLURM_CONF"])
    with locked(base / "slurm-turn.lock", fcntl.LOCK_EX):
        yield found
        found.clear()
