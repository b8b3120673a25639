"""Remove the checkpoints of runs that ended; records are never touched."""

from __future__ import annotations

import argparse
from pathlib import Path

from accelerando.runs.listing import list_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", type=Path, help="folder with runs, such as runs/")
    parser.add_argument(
        "--all", action="store_true", help="also the last checkpoint, the final weights"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def act(options: argparse.Namespace) -> None:
    """Remove them, and say how much room that makes."""
    files, room = 0, 0
    for run in list_runs(options.folder):
        if not run.status.is_final:
            continue
        last = run.path / "checkpoint.pt"
        for path in sorted(run.path.glob("checkpoint*.pt")):
            if path == last and not options.all:
                continue
            files, room = files + 1, room + path.stat().st_size
            if not options.dry_run:
                path.unlink()
    verb = "would be removed" if options.dry_run else "removed"
    print(f"{files} checkpoints of ended runs {verb}, {room / 1e6:,.0f} MB")
