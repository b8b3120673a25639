"""Remove checkpoints of completed runs; their records are kept."""

from __future__ import annotations

import argparse
from pathlib import Path

from accelerando.runs.folder import RunFolder
from accelerando.runs.listing import list_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    add = parser.add_argument
    add("folder", type=Path, help="folder with runs, such as runs/")
    add("--all", action="store_true", help="also remove the last checkpoint (final weights)")
    add("--dry-run", action="store_true", help="only print what would be removed")


def run_command(options: argparse.Namespace) -> None:
    """Remove the checkpoints and print the disk space freed."""
    count, size = 0, 0
    for run in list_runs(options.folder):
        if not run.status.is_final:
            continue
        last = RunFolder(run.path).checkpoint
        for path in sorted(run.path.glob("checkpoint*.pt")):
            if path == last and not options.all:
                continue
            count, size = count + 1, size + path.stat().st_size
            if not options.dry_run:
                path.unlink()
    verb = "would be removed" if options.dry_run else "removed"
    noun = "checkpoint" if count == 1 else "checkpoints"
    print(f"{count} {noun} of completed runs {verb}, {size / 1e6:,.0f} MB")
