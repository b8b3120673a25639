"""Print the overrides of each run of a sweep, one line per run, for job arrays."""

from __future__ import annotations

import argparse
import shlex
import sys

from accelerando.checks import UsageError
from accelerando.composition import expand_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_override_arguments(parser)
    parser.add_argument(
        "--line", type=int, metavar="I", help="print only the run with this index, from 0"
    )


def add_override_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that define a sweep."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="OVERRIDE",
        help="as for train.py -m, such as 'scheduler=glob(*)'",
    )
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="accepted as by train.py, but has no effect"
    )


def run_command(options: argparse.Namespace) -> None:
    """Print the lines, quoted for a shell, and their number to stderr."""
    lines = expand_overrides(options.overrides)
    if options.line is None:
        for line in lines:
            print(shlex.join(line))
        print(f"{len(lines)} runs: --array=0-{len(lines) - 1}", file=sys.stderr)
    elif 0 <= options.line < len(lines):
        print(shlex.join(lines[options.line]))
    else:
        raise UsageError(
            f"there is no run {options.line}: the sweep has {len(lines)} runs, "
            f"--array=0-{len(lines) - 1}"
        )
