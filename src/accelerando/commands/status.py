"""List runs: what became of each, how far it is, when it will be done."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from accelerando.launch.joined import PENDING, REQUEUED, STARTING, SUBMITTED, with_jobs
from accelerando.tracking.folder import DIVERGED, FAILED, FINISHED, INTERRUPTED, RUNNING
from accelerando.tracking.overview import LOST, UNREADABLE, Seen, runs_below

COLOURS = {
    RUNNING: "cyan",
    STARTING: "cyan",
    SUBMITTED: "blue",
    PENDING: "blue",
    REQUEUED: "blue",
    FINISHED: "green",
    INTERRUPTED: "yellow",
    DIVERGED: "magenta",
    FAILED: "red",
    LOST: "red",
    UNREADABLE: "red",
}
"""In the order in which they are counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", type=Path, help="folder with runs, such as runs/")
    parser.add_argument("--watch", action="store_true", help="keep the list alive until Ctrl-C")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two looks")
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
    first = listing(look(options.folder), options.folder)
    with Live(first, console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while True:
                time.sleep(options.every)
                live.update(listing(look(options.folder), options.folder), refresh=True)
        except KeyboardInterrupt:
            return


def look(folder: Path) -> list[Seen]:
    """Every run below a folder, and what SLURM knows of those that were submitted to it."""
    return with_jobs(runs_below(folder))


def listing(runs: Sequence[Seen], folder: Path) -> Group:
    """Counts, then a line for each run."""
    counts = Counter(run.status for run in runs)
    words = [f"{counts[status]} {status}" for status in COLOURS if counts[status]]
    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = ("epoch", "epochs/h", "gradient", "time", "left")
    for name in ("status", "run", *numbers, ""):
        right = name in numbers
        table.add_column(
            name, justify="right" if right else "left", no_wrap=name != "", overflow="fold"
        )
    for run in runs:
        table.add_row(*_row(run, folder))
    return Group(Text(f"{len(runs)} runs: " + (", ".join(words) or "none")), table)


def _row(run: Seen, folder: Path) -> list[Text]:
    status = Text(run.status, style=COLOURS[run.status])
    name = Text(str(run.path.relative_to(folder)) if run.path != folder else run.path.name)
    state = run.state
    if state is None:
        return [status, name, *(Text() for _ in range(5)), Text(run.words)]
    norm = state.full_gradient_norm
    host = f"on {state.environment.get('host', '')}" if run.status in (RUNNING, LOST) else ""
    return [
        status,
        name,
        Text(f"{state.epoch}/{state.epochs}"),
        Text("" if run.rate is None else f"{run.rate:,.3g}"),
        Text("" if norm is None else f"{norm:.3g}"),
        Text(_duration(state.seconds)),
        Text(_duration(run.left)),
        Text(", ".join(filter(None, [run.words, host]))),
    ]


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _as_json(run: Seen) -> str:
    state = {} if run.state is None else asdict(run.state)
    more = {"path": str(run.path), "status": run.status, "job": run.job, "reason": run.reason}
    return json.dumps(state | more | {"epochs_per_hour": run.rate, "seconds_left": run.left})
