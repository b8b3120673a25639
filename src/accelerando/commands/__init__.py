"""The ``accelerando`` console command, one module per subcommand."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from accelerando.checks import UsageError
from accelerando.commands import (
    compare,
    expand,
    logs,
    plan,
    prune,
    status,
    sync,
    workspace,
)
from accelerando.entry import EXIT_FAILURE, exit_with
from accelerando.interruption import EXIT_INTERRUPTED

COMMANDS = (plan, expand, status, logs, compare, sync, workspace, prune)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a subcommand; report user errors and Ctrl-C in one line."""
    parser = argparse.ArgumentParser(
        prog="accelerando",
        description="Compare batch-size and learning-rate schedulers of SGD: preview them before "
        "training, monitor runs, and compare which one reduces the full gradient norm fastest.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        summary = str(command.__doc__).splitlines()[0]
        name = command.__name__.rpartition(".")[2]
        part = commands.add_parser(name, help=summary, description=summary)
        command.add_arguments(part)
        part.set_defaults(act=command.act)
    options, rest = parser.parse_known_args(arguments)
    words = [word for word in rest if not word.startswith("-")]
    if words != rest or (rest and not hasattr(options, "words")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if words:  # argparse does not accept overrides after options
        options.words += words
    try:
        options.act(options)
    except KeyboardInterrupt:
        exit_with("interrupted", EXIT_INTERRUPTED)
    except (UsageError, OSError) as error:
        exit_with(f"error: {error}", EXIT_FAILURE)
