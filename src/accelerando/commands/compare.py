"""Compare the schedulers of finished runs in a table and a figure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from accelerando.checks import UsageError
from accelerando.tracking.folder import FINISHED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folders", nargs="+", type=Path, help="folders with runs, such as runs/")
    parser.add_argument("--x", default="epochs", choices=("epochs", "steps", "examples"))
    parser.add_argument("--output", type=Path, help="figure; default FOLDER/comparison.png")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only runs with this setting, such as epochs=100; may be given again",
    )


def act(options: argparse.Namespace) -> None:
    """Print the table and write the figure."""
    # imported here, as matplotlib takes a second that other commands need not spend
    from accelerando.compare.figure import draw
    from accelerando.compare.groups import comparable, group
    from accelerando.compare.load import load
    from accelerando.compare.table import table
    from accelerando.plotting import save

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
    figure = draw(groups, x=options.x, title=title)
    for path in (output.with_suffix(".png"), output.with_suffix(".svg")):
        save(figure, path)
        console.print(f"figure  {path}", soft_wrap=True)


def _chosen(config: dict[str, Any], wanted: Sequence[str]) -> bool:
    for text in wanted:
        name, equals, value = text.partition("=")
        if not equals or name not in config:
            raise UsageError(f"--where {text}: give NAME=VALUE, NAME one of {', '.join(config)}")
        if config[name] != yaml.safe_load(value):
            return False
    return True
