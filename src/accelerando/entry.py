"""Between the command line and a run: arguments, errors in one line, exit codes."""

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

from accelerando.checks import UsageError
from accelerando.config import RunSettings, register
from accelerando.hydra_adapter import command_line_overrides
from accelerando.identity import run_folder
from accelerando.interruption import EXIT_INTERRUPTED, Interrupted
from accelerando.runs.folder import State
from accelerando.terminal import make_console
from accelerando.wandb_mirror import sweep_agent

EXIT_FAILURE = 1

MISTAKES = (UsageError, HydraException, OmegaConfBaseException, OSError)
"""What is told in one line; anything else is a defect, and its traceback is wanted."""

register()


def stop(message: str, code: int) -> NoReturn:
    """End the command for a reason that needs no traceback."""
    with suppress(OSError):  # the code counts also where nobody reads the words
        print(message, file=sys.stderr)
    sys.exit(code)


def flags_first(arguments: list[str]) -> list[str]:
    """Move options before overrides: Hydra refuses ``scheduler=cosine -m seed=0,1``.

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
    """Put the arguments in order, and tell mistakes in one line with a non-zero exit code."""
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits by itself
    try:
        given = sys.argv[1:]
        sys.argv[1:] = flags_first(
            sweep_agent.agent_overrides(given) if sweep_agent.sweep_id() else given
        )
        yield
    except KeyboardInterrupt:
        stop("interrupted", EXIT_INTERRUPTED)
    except MISTAKES as error:
        if full:
            raise
        stop(f"error: {explain(error)}", EXIT_FAILURE)


def explain(error: BaseException) -> str:
    """What was given, what is allowed, what to do: in one line."""
    cause = error.__cause__
    if isinstance(error, HydraException) and isinstance(cause, OmegaConfBaseException):
        names, first = _known_names(cause), str(error).splitlines()[0]
        if names:
            return f"{first} Known there: {', '.join(names)}"
        return f"{first}: {_first_line(cause)} ({cause.full_key}).{_hint(cause)}"
    if isinstance(error, OmegaConfBaseException):
        return f"{_first_line(error)} ({error.full_key})"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}{_other_root(str(error.filename))}"
    # Hydra lists the options a line each, then where it looked for them
    lines = str(error).split("Config search path:")[0].split("Set the environment variable")[0]
    words = [line.strip() for line in lines.splitlines() if line.strip()]
    return " ".join(words)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].removesuffix(".")


def _other_root(file: str) -> str:
    """What to do where the folder of the runs is what cannot be written."""
    root = next((word[5:] for word in reversed(sys.argv) if word.startswith("root=")), "runs")
    one, other = Path(root).absolute(), Path(file).absolute()
    concerned = one.is_relative_to(other) or other.is_relative_to(one)
    return ". Runs go to a folder of your choice: root=DIR" if concerned else ""


def _hint(error: OmegaConfBaseException) -> str:
    if "''" in str(error) or "[]" in str(error):
        return " An empty list of values makes no run: give at least one, such as seed=0,1,2"
    return ""


def _known_names(error: OmegaConfBaseException) -> list[str]:
    parent = error.parent_node
    if not isinstance(parent, DictConfig) or error.key in parent:
        return []
    return sorted(str(key) for key in parent if key != "hydra")


def train(config: DictConfig) -> float | None:
    """Run what Hydra composed and return the minimum full gradient norm."""
    from accelerando.training.run import run  # imports torch, which takes seconds: only now

    hydra = HydraConfig.get()
    console = make_console()
    try:
        settings = RunSettings.from_hydra(config)
        state = run(settings, list(hydra.overrides.task), console)
    except Interrupted as interrupt:
        console.print(f"interrupted by {interrupt}, saved; rerun the same command to resume")
        raise
    except MISTAKES as error:  # not left to Hydra, which would add a line of its own
        stop(f"error: {explain(error)}", EXIT_FAILURE)
    if state is None:
        return None
    if hydra.mode == RunMode.RUN:
        _conclude(settings, state, console)
    return state.full_gradient_norm


def _conclude(settings: RunSettings, state: State, console: Console) -> None:
    norm = state.full_gradient_norm
    console.print(
        f"{state.status}: {state.epoch} epochs, {state.step:,} steps in {state.seconds:.0f} s, "
        + (
            f"minimum full gradient norm {norm:.3g}"
            if norm is not None
            else "no exact norm measured"
        )
        + (f" ({state.message})" if state.message else "")
    )
    console.print(f"files    {run_folder(settings)}")
    console.print(f"compare  accelerando compare {run_folder(settings).parents[1]}")
    if state.wandb.get("mode") == "offline":
        console.print(f"W&B      accelerando sync {run_folder(settings)}")
    elif state.wandb.get("url"):
        console.print(f"W&B      {state.wandb['url']}")
