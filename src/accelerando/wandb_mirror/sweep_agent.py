"""What a W&B agent tells the run that it starts: its id, its sweep, and its words once more."""

from __future__ import annotations

import ast
import os
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

from accelerando.checks import UsageError
from accelerando.interruption import SignalHandler
from accelerando.wandb_mirror.run_metadata import OVERRIDES_KEY

SHAPES = ("scheduler.batch_size", "scheduler.learning_rate")
"""Groups inside a group: Hydra writes them with a slash, which W&B allows in no name."""

ANNOUNCED = 5.0
"""Seconds after SIGTERM within which the end of a SLURM job is known to its runs."""


def sweep_id() -> str | None:
    """The sweep that this process works for."""
    return os.environ.get("WANDB_SWEEP_ID") or None


def assigned_run_id() -> str | None:
    """Id that the sweep has given the run; the agent takes no other."""
    return os.environ.get("WANDB_RUN_ID") or None if sweep_id() else None


def may_come_back() -> bool:
    """Whether somebody starts an interrupted run again: SLURM, or the sweep."""
    return sweep_id() is not None or "SLURM_JOB_ID" in os.environ


def stopped_by_sweep(stop: SignalHandler) -> bool:
    """Whether the sweep wants no more of a run that was stopped.

    Its agent ends one run, by early termination or because somebody asked for it on the run's page,
    with SIGTERM alone. A job that ends announces it to its runs, as ``slurm/agents.sbatch`` does:
    before SIGTERM, or just after it where SLURM signals all processes of the job at once.
    """
    if sweep_id() is None:
        return False
    late = time.monotonic() + (ANNOUNCED if "SLURM_JOB_ID" in os.environ else 0)
    while set(stop.signals) == {signal.SIGTERM} and time.monotonic() < late:
        time.sleep(0.05)
    return set(stop.signals) == {signal.SIGTERM}


def agent_overrides(arguments: Sequence[str]) -> list[str]:
    """The words of a run's command line, from the arguments that an agent gives it.

    At its first start a run gets the sweep's keys. One that was preempted is handed back with
    every key of its W&B config instead, the whole of our settings and W&B's own notes among them,
    as Python prints them, which Hydra cannot read (github.com/wandb/wandb/issues/9143). The config
    also holds the words of the first start: those count. A sweep's nested parameters become dotted
    names, Python's None becomes ``null``, and a shape is chosen by a name without a slash.

    >>> agent_overrides(["seed=0", "_wandb={'t': 1}", "scheduler={'learning_rate': {'peak': 0.5}}"])
    ['seed=0', 'scheduler.learning_rate.peak=0.5']
    >>> agent_overrides(["scheduler.learning_rate=cosine", "scheduler.learning_rate.initial=0.1"])
    ['scheduler/learning_rate=cosine', 'scheduler.learning_rate.initial=0.1']
    >>> agent_overrides(["seed=0", "hydra={'seed': 0}", "overrides=['epochs=9', 'seed=0']"])
    ['epochs=9', 'seed=0']
    >>> agent_overrides(["measure.every_steps=None", "scheduler.learning_rate={'peak': None}", "-m"])
    ['measure.every_steps=null', 'scheduler.learning_rate.peak=null', '-m']

    Raises:
        UsageError: the words cannot be read.
    """
    before = next((word for word in arguments if word.startswith(f"{OVERRIDES_KEY}=")), None)
    if before is None:
        return [part for word in arguments for part in _flat(*_split(word))]
    # what concerns Hydra alone is in no config, and was given again by the sweep's command
    kept = [word for word in arguments if word.startswith(("-", "hydra.", "hydra/"))]
    first = _literal(before.partition("=")[2])
    if not isinstance(first, list):
        raise UsageError(f"the agent gave {before}: a list of words was expected")
    return kept + [str(word) for word in first]


_ALONE = object()
"""In place of the value of a word that has none."""


def _split(word: str) -> tuple[str, Any]:
    """Name and value; of the values only None and nested parameters are read."""
    name, equals, text = word.partition("=")
    if not equals:
        return word, _ALONE
    return name, _literal(text) if text == "None" or text.startswith("{") else text


def _flat(name: str, value: Any) -> Iterator[str]:
    if name.startswith("_wandb") or name == "hydra":
        return
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(f"{name}.{key}", item)
    elif value is _ALONE:
        yield name
    else:
        name = name.replace(".", "/") if name in SHAPES else name
        yield f"{name}={'null' if value is None else value}"


def _literal(text: str) -> Any:
    """What Python printed; the text itself where it is something else, such as Hydra's own."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
