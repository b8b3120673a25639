"""The entry point of train.py: command-line arguments, one-line errors and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from accelerando.budget import register
from accelerando.build import settings_from_hydra
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.hydra_adapter import command_line_overrides
from accelerando.identity import run_folder
from accelerando.interruption import EXIT_INTERRUPTED, Interrupted
from accelerando.runs.folder import State
from accelerando.terminal import make_console
from accelerando.wandb_mirror import sweep_agent

EXIT_FAILURE = 1
EMPTY_LIST_HINT = (
    " An empty list of values expands to no runs: give at least one value, as in seed=0,1,2"
)

USER_ERRORS = (UsageError, HydraException, OmegaConfBaseException, OSError)
"""Errors reported in one line. Any other exception is a bug and keeps its traceback."""

register()


def exit_with(message: str, code: int) -> NoReturn:
    """Print a message to stderr and exit."""
    with suppress(OSError):  # the exit code matters even if stderr is closed
        print(message, file=sys.stderr)
    sys.exit(code)


def flags_first(arguments: list[str]) -> list[str]:
    """Move options before overrides: Hydra rejects ``scheduler=cosine -m seed=0,1``.

    >>> flags_first(["scheduler=cosine", "-m", "seed=0,1"])
    ['-m', 'scheduler=cosine', 'seed=0,1']
    """
    overrides = command_line_overrides(arguments)
    if overrides is None:
        return arguments
    flags, remaining = [], overrides.copy()
    for argument in arguments:
        if remaining and argument == remaining[0]:
            remaining.pop(0)
        else:
            flags.append(argument)
    return [*flags, *overrides]


@contextmanager
def command_line() -> Iterator[None]:
    """Reorder the arguments for Hydra, and report user errors in one line."""
    full_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints the error and exits
    try:
        arguments = sys.argv[1:]
        if sweep_agent.sweep_id():
            arguments = sweep_agent.agent_overrides(arguments)
        sys.argv[1:] = flags_first(arguments)
        yield
    except KeyboardInterrupt:
        exit_with("interrupted", EXIT_INTERRUPTED)
    except USER_ERRORS as error:
        if full_traceback:
            raise
        exit_with(f"error: {explain(error)}", EXIT_FAILURE)


def explain(error: BaseException) -> str:
    """Return the message of an error in one line, with what is allowed and what to do."""
    cause = error.__cause__
    if isinstance(error, HydraException) and isinstance(cause, OmegaConfBaseException):
        names, first = _known_names(cause), str(error).splitlines()[0]
        if names:
            return f"{first} Choose from: {', '.join(names)}"
        hint = EMPTY_LIST_HINT if "''" in str(cause) or "[]" in str(cause) else ""
        return f"{first}: {_first_line(cause)} ({cause.full_key}).{hint}"
    if isinstance(error, OmegaConfBaseException):
        if usage_error := _usage_error_of_resolver(error):
            return str(usage_error)
        return f"{_first_line(error)} ({error.full_key})"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}{_other_root(str(error.filename))}"
    # Hydra prints the choices on lines of their own, followed by its search path
    lines = str(error).split("Config search path:")[0].split("Set the environment variable")[0]
    return " ".join(line.strip() for line in lines.splitlines() if line.strip())


def _usage_error_of_resolver(error: BaseException | None) -> UsageError | None:
    """Return the error that OmegaConf wrapped, if a resolver raised one."""
    while error is not None and not isinstance(error, UsageError):
        error = error.__cause__ or error.__context__
    return error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].removesuffix(".")


def _other_root(file: str) -> str:
    """Advise another ``root`` if the file is inside the folder of all runs, or contains it."""
    roots = [argument[5:] for argument in sys.argv if argument.startswith("root=")]
    root, path = Path(roots[-1] if roots else "runs").absolute(), Path(file).absolute()
    related = root.is_relative_to(path) or path.is_relative_to(root)
    return "; write runs to another folder with root=DIR" if related else ""


def _known_names(error: OmegaConfBaseException) -> list[str]:
    parent = error.parent_node
    if not isinstance(parent, DictConfig) or error.key in parent:
        return []
    return sorted(str(key) for key in parent if key != "hydra")


def train(config: DictConfig) -> float | None:
    """Train the run that Hydra composed. Return its minimum full gradient norm."""
    from accelerando.training.run import run  # imported late: torch takes seconds

    hydra = HydraConfig.get()
    console = make_console()
    try:
        settings = settings_from_hydra(config)
        state = run(settings, list(hydra.overrides.task), console)
    except Interrupted as interrupt:
        console.print(f"interrupted by {interrupt}, saved; rerun the same command to resume")
        raise
    except USER_ERRORS as error:  # Hydra would print a line of its own
        exit_with(f"error: {explain(error)}", EXIT_FAILURE)
    if state is None:
        return None
    if hydra.mode == RunMode.RUN:
        _print_summary(settings, state, console)
    return state.full_gradient_norm


def _print_summary(settings: RunSettings, state: State, console: Console) -> None:
    norm = state.full_gradient_norm
    result = "no exact norm measured" if norm is None else f"minimum full gradient norm {norm:.3g}"
    message = f" ({state.message})" if state.message else ""
    console.print(
        f"{state.status}: {state.epoch} epochs, {state.step:,} steps in {state.seconds:.0f} s, "
        f"{result}{message}"
    )
    console.print(f"files    {run_folder(settings)}")
    console.print(f"compare  accelerando compare {run_folder(settings).parents[1]}")
    if state.wandb.get("mode") == "offline":
        console.print(f"W&B      accelerando sync {run_folder(settings)}")
    elif state.wandb.get("url"):
        console.print(f"W&B      {state.wandb['url']}")
