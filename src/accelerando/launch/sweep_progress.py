"""One display for all runs of a sweep: a line for each that ended, a bar for the whole."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from accelerando.interruption import EXIT_INTERRUPTED, SIGNALS
from accelerando.launch.pool import Job, JobResult
from accelerando.runs.folder import RunFolder, State, Status


class SweepProgress:
    """Follows the runs through their ``state.json``; see ``launch.pool.Watch``."""

    def __init__(self, console: Console, runs: int) -> None:
        self._console, self._runs, self._ended = console, runs, 0
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),  # overrides hold brackets
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=max(runs, 1))

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def poll(self, running: Sequence[Job]) -> None:
        if not self._console.is_terminal:
            return
        done, texts = float(self._ended), []
        for job in running:
            state = RunFolder(job.folder).readable_state()
            if state is not None and state.status == Status.RUNNING:
                done += state.epoch / state.epochs
                texts.append(f"{job.name} {state.epoch}/{state.epochs}")
        description = f"{self._ended}/{self._runs} runs  " + "  ".join(texts)
        self._bar.update(self._task, completed=done, description=description)

    def ended(self, job: Job, how: JobResult) -> None:
        self._ended += 1
        status, message = outcome(job, how)
        self._bar.console.print(
            f"{self._ended}/{self._runs}  {status}  {job.name}  {message}",
            highlight=False,
            markup=False,
        )


def outcome(job: Job, how: JobResult | None) -> tuple[Status, str]:
    """What became of a job's run, and a few words on it.

    Args:
        job: the job.
        how: how its process ended; None where none was started now.
    """
    folder = RunFolder(job.folder)
    state = folder.readable_state()
    # a state from before this process was started tells of an earlier one
    fresh = how is not None and state is not None and state.updated >= how.started
    if state is not None and (state.status.is_final or (fresh and state.status != Status.RUNNING)):
        return state.status, state.message or _words(state)
    if how is None:
        return Status.NOT_STARTED, ""
    # a signal to all processes may reach the job before the pool has asked it to stop, or the run
    # listens to signals
    if how.asked or how.code == EXIT_INTERRUPTED or -how.code in SIGNALS:
        return Status.INTERRUPTED, "before it began"
    if how.code < 0:
        return Status.FAILED, f"killed by {signal.Signals(-how.code).name}"
    return Status.FAILED, _last_line(folder.output) or f"exit code {how.code}"


def _last_line(path: Path) -> str:
    """What a process said last; "" where it said nothing, or its folder was removed."""
    with suppress(OSError):
        return next(reversed(path.read_text(errors="replace").splitlines()), "")
    return ""


def _words(state: State) -> str:
    norm = state.full_gradient_norm
    return f"gradient {'none' if norm is None else f'{norm:.3g}'}  {state.seconds:.0f} s"
