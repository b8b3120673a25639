"""Send runs to W&B that were made offline, interrupted, or cut off from the server."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from rich.console import Console

from accelerando.runs.listing import list_runs
from accelerando.wandb_mirror.sync import SyncOutcome, sync_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add = parser.add_argument
    add("folder", type=Path, help="a run folder, or a folder that contains runs")
    add("--untracked", action="store_true", help="include runs made with tracking=disabled")
    add(
        "--again",
        action="store_true",
        help="check with the server even for runs that were sent completely before",
    )


def run_command(options: argparse.Namespace) -> None:
    """Send the runs one after the other, and print a summary.

    Raises:
        SystemExit: some runs are corrupt or could not be sent; all others were.
        UsageError: W&B cannot be reached, or there is no login.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    counts: Counter[SyncOutcome] = Counter()
    for run in list_runs(options.folder):
        name = run.path.relative_to(options.folder) if run.path != options.folder else run.path.name
        outcome = sync_run(
            run,
            partial(console.print, name),
            include_untracked=options.untracked,
            recheck=options.again,
        )
        counts[outcome] += 1
    total = counts.total()
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "none found"
    console.print(f"{total} {'run' if total == 1 else 'runs'}: {summary}")
    if counts[SyncOutcome.CORRUPT] or counts[SyncOutcome.FAILED]:
        sys.exit(1)
