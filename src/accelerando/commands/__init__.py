"""The ``accelerando`` console command, one module per subcommand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from accelerando.checks import UsageError
from accelerando.entry import EXIT_FAILURE, exit_with, explain
from accelerando.interruption import EXIT_INTERRUPTED

COMMANDS = ("plan", "expand", "status", "logs", "compare", "sync", "workspace", "prune")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a subcommand; report user errors and Ctrl-C in one line."""
    parser = argparse.ArgumentParser(
        prog="accelerando",
        description="Compare batch-size and learning-rate schedulers of SGD: preview them before "
        "training, monitor runs, and compare which one reduces the full gradient norm fastest.",
    )
    arguments = sys.argv[1:] if arguments is None else arguments
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    # all commands are imported for the list of commands only: some take a second
    for name in [name for name in COMMANDS if name in arguments[:1]] or COMMANDS:
        command = import_module(f"accelerando.commands.{name}")
        summary = str(command.__doc__).splitlines()[0]
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        command.add_arguments(subparser)
        subparser.set_defaults(run_command=command.run_command)
    options, rest = parser.parse_known_args(arguments)
    overrides = [argument for argument in rest if not argument.startswith("-")]
    if overrides != rest or (rest and not hasattr(options, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if overrides:  # argparse does not accept overrides after options
        options.overrides += overrides
    try:
        options.run_command(options)
    except KeyboardInterrupt:
        exit_with("interrupted", EXIT_INTERRUPTED)
    # first, since some errors of Hydra are OSErrors; their messages have several lines
    except (HydraException, OmegaConfBaseException) as error:
        exit_with(f"error: {explain(error)}", EXIT_FAILURE)
    except (UsageError, OSError) as error:
        exit_with(f"error: {error}", EXIT_FAILURE)
