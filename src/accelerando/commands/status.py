"""List runs: status, progress, speed and remaining time of each."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from accelerando.checks import UsageError, check_at_least
from accelerando.launch.slurm_status import add_slurm_status
from accelerando.runs.folder import Status
from accelerando.runs.listing import RunStatus, list_runs

COLOURS = {
    Status.RUNNING: "cyan",
    Status.STARTING: "cyan",
    Status.SUBMITTED: "blue",
    Status.PENDING: "blue",
    Status.REQUEUED: "blue",
    Status.FINISHED: "green",
    Status.INTERRUPTED: "yellow",
    Status.DIVERGED: "magenta",
    Status.FAILED: "red",
    Status.LOST: "red",
    Status.UNREADABLE: "red",
}
"""In the order of the counts in the first line."""
PRIORITY = (
    Status.RUNNING,
    Status.STARTING,
    Status.FAILED,
    Status.LOST,
    Status.UNREADABLE,
    Status.DIVERGED,
    Status.INTERRUPTED,
    Status.REQUEUED,
)
"""Shown first if not all runs fit: active runs, then those that need attention."""
NUMBERS = ("epoch", "epochs/h", "gradient", "time", "left")
WIDE, WIDE_ONLY = 100, ("epochs/h", "time")
"""Columns that are shown only if the terminal is wide enough."""
MIN_INTERVAL = 0.1
"""Least number of seconds between refreshes; reading 1,000 runs takes 0.2 s."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    add = parser.add_argument
    add("folder", type=Path, help="folder with runs, such as runs/")
    add("--watch", action="store_true", help="refresh the list until Ctrl-C")
    add(
        "--every",
        type=float,
        metavar="SECONDS",
        help="refresh interval (default: 2, with SLURM jobs 15)",
    )
    add("--json", action="store_true", help="print one line of JSON per run")


def run_command(options: argparse.Namespace) -> None:
    """Print the list, with ``--watch`` repeatedly."""
    try:
        if options.every is not None:
            check_at_least("--every", options.every, MIN_INTERVAL)
    except ValueError as error:
        raise UsageError(str(error)) from error
    console = Console()
    if not console.is_terminal:
        console.width = 500  # do not wrap, so that grep finds a run and its details in one line
    runs = _read_runs(options.folder)
    if options.json:
        for run in runs:
            print(_to_json(run))
    elif options.watch:
        with suppress(KeyboardInterrupt):
            _watch(runs, options.folder, options.every, console)
    else:
        console.print(format_runs(runs, options.folder, console.width))


def _read_runs(folder: Path) -> list[RunStatus]:
    return add_slurm_status(list_runs(folder))


def _watch(
    runs: Sequence[RunStatus], folder: Path, interval: float | None, console: Console
) -> None:
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            height = console.height if console.is_terminal else None
            live.update(format_runs(runs, folder, console.width, height), refresh=True)
            # all users of a cluster share its controller: query it rarely
            time.sleep(interval or (15 if any(run.job for run in runs) else 2))
            runs = _read_runs(folder)


def format_runs(
    runs: Sequence[RunStatus], folder: Path, width: int, height: int | None = None
) -> Group:
    """Format the number of runs by status and a table with one row per run.

    Args:
        runs: the runs to show.
        folder: the folder that they were read from; run names are relative to it.
        width: columns of the terminal; a narrow one does not show all columns of the table.
        height: lines of the terminal, with one line per run; None: as many as needed.
    """
    one_line = height is not None
    counts = Counter(run.status for run in runs)
    by_status = ", ".join(f"{counts[status]} {status}" for status in COLOURS if counts[status])
    heading = Text(f"{len(runs)} runs: {by_status or 'none'}", no_wrap=one_line)
    numbers = [name for name in NUMBERS if width >= WIDE or name not in WIDE_ONLY]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("status", no_wrap=True)
    table.add_column("run", overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    shown = runs if height is None else _select(runs, height)
    for run in shown:
        name = str(run.path.relative_to(folder)) if run.path != folder else run.path.name
        values = _numbers(run)
        table.add_row(
            Text(run.status, style=COLOURS[run.status]),
            _CropLeft(name) if one_line else Text(name),
            *(values[number] for number in numbers),
            Text(_details(run), no_wrap=one_line, overflow="ellipsis" if one_line else None),
        )
    hidden = len(runs) - len(shown)
    footer = [Text(f"{hidden} more not shown", style="dim")] if hidden else []
    return Group(heading, table, *footer)


def _select(runs: Sequence[RunStatus], height: int) -> Sequence[RunStatus]:
    """Return as many runs as fit, those of ``PRIORITY`` first."""
    if len(runs) <= height - 2:  # below the counts and the column names
        return runs
    first = [run for status in PRIORITY for run in runs if run.status == status]
    others = [run for run in runs if run.status not in PRIORITY]
    return [*first, *others][: max(0, height - 3)]  # and above the footer


def _numbers(run: RunStatus) -> dict[str, str]:
    """Return the cells of the columns ``NUMBERS``."""
    state = run.state
    if state is None:
        return dict.fromkeys(NUMBERS, "")
    norm, speed = state.full_gradient_norm, run.epochs_per_hour
    return {
        "epoch": f"{state.epoch}/{state.epochs}",
        "epochs/h": "" if speed is None else f"{speed:,.3g}" if speed < 1000 else f"{speed:,.0f}",
        "gradient": "" if norm is None else f"{norm:.3g}",
        "time": _format_duration(state.seconds),
        "left": _format_duration(run.seconds_left),
    }


def _details(run: RunStatus) -> str:
    """Return the details of a run, and its host if it is or was running, in one line."""
    parts = [run.details]
    if run.state is not None and run.status in (Status.RUNNING, Status.LOST):
        parts.append(f"on {run.state.environment.get('host', '')}")
    return " ".join(", ".join(filter(None, parts)).split())


class _CropLeft:
    """Text of one line that loses its beginning if it does not fit: paths differ at their ends."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, len(self._text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        fits = len(self._text) <= width
        yield Text(self._text if fits else f"…{self._text[1 - width :]}", no_wrap=True)


def _format_duration(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _to_json(run: RunStatus) -> str:
    names = ("status", "job", "reason", "epochs_per_hour", "seconds_left")
    state = {} if run.state is None else asdict(run.state)
    current = {name: getattr(run, name) for name in names}
    return json.dumps(state | {"path": str(run.path)} | current)
