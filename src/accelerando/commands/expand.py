"""Print the runs that a sweep's words stand for: a line of overrides for each, for job arrays."""

from __future__ import annotations

import argparse
import shlex
import sys

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from accelerando.checks import UsageError
from accelerando.composition import expand_overrides
from accelerando.entry import explain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "words", nargs="*", metavar="OVERRIDE", help="as for train.py -m: 'scheduler=glob(*)'"
    )
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="may be given, changes nothing"
    )
    parser.add_argument("--line", type=int, metavar="I", help="only the run of this number, from 0")


def act(options: argparse.Namespace) -> None:
    """Print the lines, quoted for a shell, and to stderr how many they are."""
    try:
        lines = expand_overrides(options.words)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain(error)) from error
    if options.line is None:
        for line in lines:
            print(shlex.join(line))
        print(f"{len(lines)} runs: --array=0-{len(lines) - 1}", file=sys.stderr)
    elif 0 <= options.line < len(lines):
        print(shlex.join(lines[options.line]))
    else:
        raise UsageError(
            f"there is no run {options.line}: these words stand for {len(lines)}, "
            f"--array=0-{len(lines) - 1}"
        )
