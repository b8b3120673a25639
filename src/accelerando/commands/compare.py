"""Compare the schedulers of finished runs in a table and a figure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from accelerando.checks import UsageError
from accelerando.tracking.folder import FINISHED

if TYPE_CHECKING:
    from accelerando.compare.load import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folders", nargs="+", type=Path, help="folders with runs, such as runs/")
    parser.add_argument("--x", default="epochs", choices=("epochs", "steps", "examples"))
    parser.add_argument(
        "--output",
        type=Path,
        help="figure, .png, .svg or .pdf; default: FOLDER/comparison.png and .svg",
    )
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
    from accelerando.compare.yardstick import draw as draw_yardsticks
    from accelerando.compare.yardstick import with_both
    from accelerando.plotting import save

    runs = _chosen(load(options.folders), options.where)
    finished = [run for run in runs if run.state.status == FINISHED]
    console = Console()
    for run in runs:
        if run.state.status != FINISHED:
            console.print(f"left out, {run.state.status}: {run.path}", soft_wrap=True)
    if not finished:
        raise UsageError("no finished run is left to compare: finish some, or widen --where")
    comparable(finished)
    for run in finished:
        if "full_gradient_norm" not in run.record:
            raise UsageError(f"{run.path} measured a subset only: no exact norm to compare")
    groups = group(finished)
    first = finished[0].state
    title = f"{first.model} on {first.dataset}, {first.epochs} epochs"
    console.print(table(groups, title))
    figure = draw(groups, x=options.x, title=title)
    default = options.folders[0] / "comparison.png"
    for path in [options.output] if options.output else [default, default.with_suffix(".svg")]:
        save(figure, path)
        console.print(f"figure  {path}", soft_wrap=True)
    if options.output is None and (both := with_both(groups)):
        path = default.with_name("yardsticks.png")
        save(draw_yardsticks(both, title=title), path)
        console.print(f"figure  {path}", soft_wrap=True)


def _chosen(runs: Sequence[Run], wanted: Sequence[str]) -> list[Run]:
    """The runs whose settings are as ``wanted`` says, each word NAME=VALUE."""
    for text in wanted:
        name, equals, value = text.partition("=")
        known = {key for run in runs for key in run.config}
        if not equals or name not in known:
            raise UsageError(f"--where {text}: give NAME=VALUE, NAME one of {', '.join(known)}")
        runs = [run for run in runs if name in run.config and _equal(run.config[name], value)]
    return list(runs)


def _equal(setting: Any, text: str) -> bool:
    if isinstance(setting, (int, float)) and not isinstance(setting, bool):
        with suppress(ValueError):  # YAML takes 1e-1 for a word
            return float(text) == setting
    return bool(yaml.safe_load(text) == setting)
