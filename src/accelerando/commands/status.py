"""List runs: what became of each, how far it is, when it will be done."""

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

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from accelerando.checks import UsageError, at_least
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
"""In the order in which they are counted."""
FIRST = (
    Status.RUNNING,
    Status.STARTING,
    Status.FAILED,
    Status.LOST,
    Status.UNREADABLE,
    Status.DIVERGED,
    Status.INTERRUPTED,
    Status.REQUEUED,
)
"""What is shown first where there is no room for all: what is alive, then what went wrong."""
SHORTEST = 0.1
"""Seconds between two looks, at least; a look at 1,000 runs takes a fifth of one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", type=Path, help="folder with runs, such as runs/")
    parser.add_argument("--watch", action="store_true", help="keep the list alive until Ctrl-C")
    parser.add_argument(
        "--every", type=float, help="seconds between two looks: 2, with jobs of SLURM 15"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each run")


def act(options: argparse.Namespace) -> None:
    """Print the list, once or again and again."""
    if options.json:
        for run in look(options.folder):
            print(_as_json(run))
        return
    console = Console()
    if not console.is_terminal:
        console.width = 500  # one line for each run, for grep
    if not options.watch:
        console.print(listing(look(options.folder), options.folder))
        return
    try:
        if options.every is not None:
            at_least("--every", options.every, SHORTEST)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with suppress(KeyboardInterrupt):
        _watch(options.folder, options.every, console)


def _watch(folder: Path, every: float | None, console: Console) -> None:
    runs = look(folder)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            room = console.height if console.is_terminal else None
            live.update(listing(runs, folder, room=room), refresh=True)
            # a cluster's controller answers everybody, and is to be asked seldom
            time.sleep(every or (15 if any(run.job for run in runs) else 2))
            runs = look(folder)


def look(folder: Path) -> list[RunStatus]:
    """Every run below a folder, and what SLURM knows of those that were submitted to it."""
    return add_slurm_status(list_runs(folder))


def listing(runs: Sequence[RunStatus], folder: Path, *, room: int | None = None) -> Group:
    """Counts, then a line for each run.

    Args:
        runs: what was found.
        folder: where.
        room: lines that there are, one for each run then; None: as many as it takes.
    """
    counts = Counter(run.status for run in runs)
    words = [f"{counts[status]} {status}" for status in COLOURS if counts[status]]
    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = ("epoch", "epochs/h", "gradient", "time", "left")
    for name in ("status", "run", *numbers, ""):
        right = name in numbers
        table.add_column(
            name, justify="right" if right else "left", no_wrap=name != "", overflow="fold"
        )
    shown = runs if room is None else _first(runs, room)
    for run in shown:
        *cells, words_on_it = _row(run, folder)
        if room is not None:
            words_on_it.no_wrap, words_on_it.overflow = True, "ellipsis"
        table.add_row(*cells, words_on_it)
    head = Text(f"{len(runs)} runs: " + (", ".join(words) or "none"))
    head.no_wrap = room is not None
    left_out = len(runs) - len(shown)
    foot = [Text(f"{left_out} more are not shown", style="dim")] if left_out else []
    return Group(head, table, *foot)


def _first(runs: Sequence[RunStatus], room: int) -> Sequence[RunStatus]:
    """As many runs as fit, those first that somebody may want to do something about."""
    if len(runs) <= room - 2:  # below the counts and the columns' names
        return runs
    order = {status: place for place, status in enumerate(FIRST)}
    urgent = sorted(runs, key=lambda run: order.get(run.status, len(order)))
    return urgent[: max(0, room - 3)]  # and above how many are left out


def _row(run: RunStatus, folder: Path) -> list[Text]:
    status = Text(run.status, style=COLOURS[run.status])
    name = Text(str(run.path.relative_to(folder)) if run.path != folder else run.path.name)
    state = run.state
    if state is None:
        return [status, name, *(Text() for _ in range(5)), Text(run.details)]
    norm = state.full_gradient_norm
    host = (
        f"on {state.environment.get('host', '')}"
        if run.status in (Status.RUNNING, Status.LOST)
        else ""
    )
    return [
        status,
        name,
        Text(f"{state.epoch}/{state.epochs}"),
        Text("" if run.epochs_per_hour is None else f"{run.epochs_per_hour:,.3g}"),
        Text("" if norm is None else f"{norm:.3g}"),
        Text(_duration(state.seconds)),
        Text(_duration(run.seconds_left)),
        Text(" ".join(", ".join(filter(None, [run.details, host])).split())),
    ]


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _as_json(run: RunStatus) -> str:
    state = {} if run.state is None else asdict(run.state)
    more = {"path": str(run.path), "status": run.status, "job": run.job, "reason": run.reason}
    return json.dumps(
        state | more | {"epochs_per_hour": run.epochs_per_hour, "seconds_left": run.seconds_left}
    )
