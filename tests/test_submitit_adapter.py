"""The private parts of submitit still behave as submitit_adapter expects."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from submitit.core.utils import JobPaths
from submitit.helpers import DelayedSubmission
from submitit.slurm.slurm import SlurmJobEnvironment

from accelerando.launch import submitit_adapter
from accelerando.launch.array_task import ArrayTask


class Environment(SlurmJobEnvironment):
    """A job that counts its requeues instead of calling scontrol."""

    requeues = 0

    def _requeue(self, countdown: int) -> None:
        self.requeues += 1


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """An environment whose signal handlers are installed, as submitit does in a job."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    numbers = (submitit_adapter.REQUEUE_SIGNAL, signal.SIGTERM, signal.SIGCONT)
    before = {number: signal.getsignal(number) for number in numbers}
    submission = DelayedSubmission(ArrayTask([]))
    submission.set_timeout(60, 3)
    environment = Environment()
    environment._handle_signals(JobPaths(tmp_path, job_id="7"), submission)
    yield environment
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_handler_requeues_the_job_with_the_task(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")
    with pytest.raises(SystemExit):
        submitit_adapter.requeue_handler()()
    assert environment.requeues == 1
    (path,) = tmp_path.glob("7_submitted.pkl")
    assert pickle.loads(path.read_bytes()).function == ArrayTask([])


def test_only_the_first_process_of_a_job_requeues_it(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    submitit_adapter.requeue_handler()()
    assert environment.requeues == 0


def test_parameters_of_the_executor_include_those_that_the_launcher_sets() -> None:
    parameters = {"time", "partition", "array_parallelism", "srun_args", "setup"}
    assert parameters <= submitit_adapter.executor_parameters()
