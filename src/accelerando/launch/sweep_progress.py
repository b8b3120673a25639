"""Progress of a sweep on the terminal: a line for each finished run, one bar for all runs."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from accelerando.interruption import EXIT_INTERRUPTED, SIGNALS
from accelerando.launch.pool import Job, JobResult
from accelerando.runs.folder import RunFolder, Status


class SweepProgress:
    """Progress display of a sweep; a ``launch.pool.JobObserver`` that reads ``state.json``."""

    def __init__(self, console: Console, runs: int) -> None:
        self._console, self._runs, self._finished = console, runs, 0
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),  # overrides contain brackets
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self.bar.add_task("", total=max(runs, 1))

    def update(self, running: Sequence[Job]) -> None:
        if not self._console.is_terminal:
            return
        completed, texts = float(self._finished), []
        for job in running:
            state = RunFolder(job.folder).readable_state()
            if state is not None and state.status == Status.RUNNING:
                completed += state.epoch / state.epochs
                texts.append(f"{job.name} {state.epoch}/{state.epochs}")
        description = f"{self._finished}/{self._runs} runs  " + "  ".join(texts)
        self.bar.update(self._task, completed=completed, description=description)

    def finished(self, job: Job, result: JobResult) -> None:
        self._finished += 1
        status, message = job_outcome(job, result)
        self.bar.console.print(
            f"{self._finished}/{self._runs}  {status}  {job.name}  {message}",
            highlight=False,
            markup=False,
        )


class JobOutcome(NamedTuple):
    """The outcome of a job's run: its status, and a short message for the user."""

    status: Status
    message: str


def job_outcome(job: Job, result: JobResult | None) -> JobOutcome:
    """Return the outcome of a job's run; ``result`` is None if no process was started."""
    folder = RunFolder(job.folder)
    state = folder.readable_state()
    # a state that is older than the process was written by an earlier start
    current = result is not None and state is not None and state.updated >= result.started
    if state is not None and (
        state.status.is_final or (current and state.status != Status.RUNNING)
    ):
        norm = state.full_gradient_norm
        summary = f"gradient {'none' if norm is None else f'{norm:.3g}'}  {state.seconds:.0f} s"
        return JobOutcome(state.status, state.message or summary)
    if result is None:
        return JobOutcome(Status.NOT_STARTED, "")
    # the job may have received the signal itself, before the pool asked it to stop
    if (
        result.stop_requested
        or result.exit_code == EXIT_INTERRUPTED
        or -result.exit_code in SIGNALS
    ):
        return JobOutcome(Status.INTERRUPTED, "before training started")
    if result.exit_code < 0:
        return JobOutcome(Status.FAILED, f"killed by {signal.Signals(-result.exit_code).name}")
    return JobOutcome(Status.FAILED, _last_line(folder.output) or f"exit code {result.exit_code}")


def _last_line(path: Path) -> str:
    """Return the last line of a file, or "" if there is none."""
    with suppress(OSError):
        return next(reversed(path.read_text(errors="replace").splitlines()), "")
    return ""
