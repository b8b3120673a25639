"""Send runs to W&B from their records: those made offline, interrupted, or cut off from it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from rich.console import Console

from accelerando.runs.listing import list_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", type=Path, help="a run's folder, or one that holds runs")
    parser.add_argument(
        "--untracked", action="store_true", help="also runs made with tracking=disabled"
    )
    parser.add_argument(
        "--again", action="store_true", help="ask W&B also about runs that were sent before"
    )


def act(options: argparse.Namespace) -> None:
    """Send them one after the other, and say what there was to do.

    Raises:
        SystemExit: a run has damaged files, or could not be sent; the others were.
        UsageError: W&B cannot be reached, or knows no login.
    """
    # wandb is imported where it is needed
    from accelerando.wandb_mirror.sync import DAMAGED, NOT_SENT, SyncOptions, sync_run

    console = Console(soft_wrap=True, highlight=False, markup=False)
    counts: Counter[str] = Counter()
    wanted = SyncOptions(untracked=options.untracked, again=options.again)
    for run in list_runs(options.folder):
        name = run.path.relative_to(options.folder) if run.path != options.folder else run.path.name
        counts[sync_run(run, wanted, partial(console.print, name))] += 1
    words = [f"{number} {outcome}" for outcome, number in counts.items()]
    console.print(f"{counts.total()} runs: {', '.join(words) or 'none'}")
    if counts[DAMAGED] or counts[NOT_SENT]:
        sys.exit(1)
