"""The process pool: order, failures, killed jobs and interruption, with real processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from accelerando.interruption import SignalHandler
from accelerando.launch.pool import Job, JobResult, run_jobs


class Observer:
    """Remembers the names of finished jobs and how many ran at the same time."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.most_running = 0

    def update(self, running: Sequence[Job]) -> None:
        self.most_running = max(self.most_running, len(running))

    def finished(self, job: Job, result: JobResult) -> None:
        self.names.append(job.name)


def kill_itself(number: int) -> None:
    os.kill(os.getpid(), number)


def exit_with(code: int) -> None:
    sys.exit(code)


def wait_until_stopped(folder: Path) -> None:
    """Create a file at the start; exit on SIGTERM as an interrupted run does."""

    def stop(*_: object) -> None:
        sys.exit(75)

    signal.signal(signal.SIGTERM, stop)
    (folder / "started").touch()
    time.sleep(60)


def test_each_job_has_its_own_process_and_result(tmp_path: Path) -> None:
    calls = {
        "value": partial(pow, 2, 5),
        "failure": partial(int, "no number"),
        "exit": partial(exit_with, 75),
        "killed": partial(kill_itself, signal.SIGKILL),
        "output": partial(print, "printed"),
        "process": os.getpid,
    }
    jobs = [Job(name, tmp_path / name, call) for name, call in calls.items()]
    observer = Observer()
    value, failure, exited, killed, output, process = run_jobs(
        jobs, workers=2, signals=SignalHandler(), observer=observer
    )
    assert value == JobResult(0, 32)
    assert failure == JobResult(1)
    assert "invalid literal" in (tmp_path / "failure" / "output.log").read_text()
    assert exited == JobResult(75)
    assert killed == JobResult(-signal.SIGKILL)
    assert output == JobResult(0)
    assert (tmp_path / "output" / "output.log").read_text() == "printed\n"
    assert process is not None
    assert process.value != os.getpid()
    assert sorted(observer.names) == sorted(calls)
    assert observer.most_running <= 2


def test_interrupted_pool_stops_its_jobs_and_starts_no_more(tmp_path: Path) -> None:
    jobs = [
        Job(name, tmp_path / name, partial(wait_until_stopped, tmp_path / name))
        for name in ("first", "second")
    ]

    def interrupt() -> None:
        for _ in range(600):
            if (tmp_path / "first" / "started").exists():
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with SignalHandler() as signals:
        first, second = run_jobs(jobs, workers=1, signals=signals)
    thread.join()
    assert first == JobResult(75)
    assert first.stop_requested
    assert second is None
    assert not (tmp_path / "second").exists()
