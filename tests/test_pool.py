"""The pool of processes: order, failures, deaths and interruption, with real processes."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from accelerando.config import RunSettings
from accelerando.interruption import SignalHandler
from accelerando.launch import planning
from accelerando.launch.pool import Job, JobResult, run_jobs
from accelerando.launch.sweep_progress import SweepProgress, outcome


class Watched:
    """Remembers what happened."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.most = 0

    def poll(self, running: Sequence[Job]) -> None:
        self.most = max(self.most, len(running))

    def ended(self, job: Job, how: JobResult) -> None:
        self.names.append(job.name)


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def leave(code: int) -> None:
    sys.exit(code)


def wait_for_the_end(folder: Path) -> None:
    """Say that it started, and end as a run does when it is asked to."""

    def stop(*_: object) -> None:
        sys.exit(75)

    signal.signal(signal.SIGTERM, stop)
    (folder / "started").touch()
    time.sleep(60)


def signal_to(process: int, *_: object) -> None:
    os.kill(process, signal.SIGINT)


def test_each_job_has_its_own_process_and_result(tmp_path: Path) -> None:
    calls = {
        "value": partial(pow, 2, 5),
        "failure": partial(int, "no number"),
        "exit": partial(leave, 75),
        "killed": partial(die, signal.SIGKILL),
        "output": partial(print, "a word"),
        "process": os.getpid,
    }
    jobs = [Job(name, tmp_path / name, call) for name, call in calls.items()]
    watched = Watched()
    value, failure, exited, killed, output, process = run_jobs(
        jobs, workers=2, watch=watched, stop=SignalHandler()
    )
    assert value == JobResult(0, 32)
    assert failure == JobResult(1)
    assert "invalid literal" in (tmp_path / "failure" / "output.log").read_text()
    assert exited == JobResult(75)
    assert killed == JobResult(-signal.SIGKILL)
    assert output == JobResult(0)
    assert (tmp_path / "output" / "output.log").read_text() == "a word\n"
    assert process is not None
    assert process.value != os.getpid()
    assert sorted(watched.names) == sorted(calls)
    assert watched.most <= 2


def test_an_interrupted_pool_asks_its_jobs_to_stop_and_starts_no_other(tmp_path: Path) -> None:
    jobs = [
        Job(name, tmp_path / name, partial(wait_for_the_end, tmp_path / name))
        for name in ("one", "two")
    ]

    def interrupt() -> None:
        for _ in range(600):
            if (tmp_path / "one" / "started").exists():
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with SignalHandler() as stop:
        first, second = run_jobs(jobs, workers=1, watch=Watched(), stop=stop)
    thread.join()
    assert first == JobResult(75)
    assert second is None
    assert not (tmp_path / "two").exists()


def test_a_signal_while_runs_are_tried_out_is_not_lost(
    settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where it comes as the trial ends, which then needs not be asked to."""
    monkeypatch.setattr(planning, "_in_process", partial(signal_to, os.getpid()))
    with pytest.raises(KeyboardInterrupt):
        planning.check_runs([settings()], devices=False)


def test_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    """Of an override, and of a path, which end no display."""
    (tmp_path / "output.log").write_text("ValueError: not in [/data/x]\n")
    console = Console(file=io.StringIO(), width=200)
    with SweepProgress(console, 1) as view:
        view.ended(Job("tracking.tags=[a,b]", tmp_path, print), JobResult(1))
    assert isinstance(console.file, io.StringIO)
    line = "1/1  failed  tracking.tags=[a,b]  ValueError: not in [/data/x]\n"
    assert console.file.getvalue() == line


@pytest.mark.parametrize(
    ("how", "status"),
    [
        (JobResult(75), "interrupted"),  # by a signal of its own, before it had a state to write
        (JobResult(1, asked=True), "interrupted"),
        (JobResult(-signal.SIGHUP), "interrupted"),
        (JobResult(-signal.SIGKILL), "failed"),
        (JobResult(1), "failed"),
    ],
)
def test_what_became_of_a_job_without_a_state(how: JobResult, status: str, tmp_path: Path) -> None:
    (tmp_path / "output.log").write_text("the last line\n")
    assert outcome(Job("job", tmp_path, print), how)[0] == status
