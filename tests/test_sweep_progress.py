"""Outcomes of the jobs of a sweep, and the lines that report them."""

from __future__ import annotations

import io
import signal
from pathlib import Path

import pytest
from rich.console import Console

from accelerando.launch.pool import Job, JobResult
from accelerando.launch.sweep_progress import SweepProgress, job_outcome


def test_brackets_are_not_interpreted_as_markup(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_text("ValueError: not in [/data/x]\n")
    console = Console(file=io.StringIO(), width=200)
    progress = SweepProgress(console, 1)
    with progress.bar:
        progress.finished(Job("tracking.tags=[a,b]", tmp_path, print), JobResult(1))
    assert isinstance(console.file, io.StringIO)
    line = "1/1  failed  tracking.tags=[a,b]  ValueError: not in [/data/x]\n"
    assert console.file.getvalue() == line


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (JobResult(75), ("interrupted", "before training started")),  # by a signal to the job
        (JobResult(1, stop_requested=True), ("interrupted", "before training started")),
        (JobResult(-signal.SIGHUP), ("interrupted", "before training started")),
        (JobResult(-signal.SIGKILL), ("failed", "killed by SIGKILL")),
        (JobResult(1), ("failed", "the last line")),
        (None, ("not started", "")),
    ],
)
def test_outcome_of_a_job_that_wrote_no_state(
    result: JobResult | None, expected: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "output.log").write_text("the first line\nthe last line\n")
    assert job_outcome(Job("job", tmp_path, print), result) == expected
