"""The ``accelerando`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from accelerando.checks import UsageError
from accelerando.tracking.folder import FINISHED


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; a mistake of the user's is told in one line, with exit code 1."""
    parser = argparse.ArgumentParser(prog="accelerando", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_compare(commands)
    options = parser.parse_args(arguments)
    try:
        options.act(options)
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _add_compare(commands: Any) -> None:
    words = "compare the schedulers of finished runs in a table and a figure"
    compare = commands.add_parser("compare", help=words, description=words)
    compare.add_argument("folders", nargs="+", type=Path, help="folders with runs, such as runs/")
    compare.add_argument("--x", default="epochs", choices=("epochs", "steps", "examples"))
    compare.add_argument("--output", type=Path, help="figure; default FOLDER/comparison.png")
    compare.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only runs with this setting, such as epochs=100; may be given again",
    )
    compare.set_defaults(act=_compare)


def _compare(options: argparse.Namespace) -> None:
    # imported here, as matplotlib takes a second that other commands need not spend
    from accelerando.compare.figure import draw, save
    from accelerando.compare.groups import comparable, group
    from accelerando.compare.load import load
    from accelerando.compare.table import table

    runs = [run for run in load(options.folders) if _chosen(run.config, options.where)]
    finished = [run for run in runs if run.state.status == FINISHED]
    console = Console()
    for run in runs:
        if run.state.status != FINISHED:
            console.print(f"left out, {run.state.status}: {run.path}", soft_wrap=True)
    if not finished:
        raise UsageError("no finished run is left to compare: finish some, or widen --where")
    comparable(finished)
    groups = group(finished)
    first = finished[0].state
    title = f"{first.model} on {first.dataset}, {first.epochs} epochs"
    console.print(table(groups, title))
    output = options.output or options.folders[0] / "comparison.png"
    for path in save(draw(groups, x=options.x, title=title), output):
        console.print(f"figure  {path}", soft_wrap=True)


def _chosen(config: dict[str, Any], wanted: Sequence[str]) -> bool:
    for text in wanted:
        name, equals, value = text.partition("=")
        if not equals or name not in config:
            raise UsageError(f"--where {text}: give NAME=VALUE, NAME one of {', '.join(config)}")
        if config[name] != yaml.safe_load(value):
            return False
    return True


if __name__ == "__main__":
    main()
