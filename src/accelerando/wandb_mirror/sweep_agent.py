"""Read what a W&B agent passes to the run that it starts: run id, sweep and overrides."""

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
from accelerando.wandb_mirror.wandb_adapter import RESERVED_KEY

NESTED_GROUPS = ("scheduler.batch_size", "scheduler.learning_rate")
"""Config groups that Hydra writes with a slash, which W&B forbids in parameter names."""

ANNOUNCEMENT_DELAY = 5.0
"""Seconds after SIGTERM within which SIGUSR1 arrives if the whole SLURM job is ending."""


def sweep_id() -> str | None:
    """Return the id of the sweep that this process works for, if any."""
    return os.environ.get("WANDB_SWEEP_ID") or None


def assigned_run_id() -> str | None:
    """Return the run id that the sweep assigned, if any; its agent accepts no other."""
    return os.environ.get("WANDB_RUN_ID") or None if sweep_id() else None


def will_be_restarted() -> bool:
    """Return whether SLURM or a sweep starts this run again after an interruption."""
    return sweep_id() is not None or "SLURM_JOB_ID" in os.environ


def stopped_by_sweep(signals: SignalHandler) -> bool:
    """Return whether the sweep stopped this run for good.

    An agent stops a single run, after early termination or a click on the run's page, with SIGTERM
    alone. A job that ends sends SIGUSR1 too, as ``slurm/agents.sbatch`` does: before SIGTERM, or
    just after it if SLURM was faster and signalled every process of the job.
    """
    if sweep_id() is None:
        return False
    deadline = time.monotonic() + (ANNOUNCEMENT_DELAY if "SLURM_JOB_ID" in os.environ else 0)
    while set(signals.signals) == {signal.SIGTERM} and time.monotonic() < deadline:
        time.sleep(0.05)
    return set(signals.signals) == {signal.SIGTERM}


def agent_overrides(arguments: Sequence[str]) -> list[str]:
    """Convert the arguments that an agent passes to a run into Hydra overrides.

    A run's first start receives the parameters of the sweep. A preempted run that W&B hands out
    again receives every key of its W&B config instead, including our complete settings and W&B's
    own keys, printed as Python values that Hydra cannot parse
    (github.com/wandb/wandb/issues/9143). That config also contains the overrides of the first
    start, which are used then. Nested parameters become dotted names, None becomes ``null``, and
    the nested config groups get their slash back.

    >>> agent_overrides(["seed=0", "_wandb={'t': 1}", "scheduler={'learning_rate': {'peak': 0.5}}"])
    ['seed=0', 'scheduler.learning_rate.peak=0.5']
    >>> agent_overrides(["scheduler.learning_rate=cosine", "scheduler.learning_rate.initial=0.1"])
    ['scheduler/learning_rate=cosine', 'scheduler.learning_rate.initial=0.1']
    >>> agent_overrides(["seed=0", "hydra={'seed': 0}", "overrides=['epochs=9', 'seed=0']"])
    ['epochs=9', 'seed=0']
    >>> agent_overrides(["measure.chunk=None", "scheduler.learning_rate={'peak': None}", "-m"])
    ['measure.chunk=null', 'scheduler.learning_rate.peak=null', '-m']

    Raises:
        UsageError: the overrides of the first start are not a list.
    """
    prefix = f"{OVERRIDES_KEY}="
    first_start = next((text for text in arguments if text.startswith(prefix)), None)
    if first_start is None:
        return [override for text in arguments for override in _flatten(*_parse(text))]
    overrides = _python_literal(first_start.removeprefix(prefix))
    if not isinstance(overrides, list):
        raise UsageError(f"the agent passed {first_start}: expected a list of overrides")
    # W&B's config has no Hydra options, but the sweep's command passes them at every start
    options = [text for text in arguments if text.startswith(("-", "hydra.", "hydra/"))]
    return options + [str(override) for override in overrides]


_NO_VALUE = object()


def _parse(argument: str) -> tuple[str, Any]:
    """Split ``name=value``; only None and nested parameters are converted from text."""
    name, equals, text = argument.partition("=")
    if not equals:
        return argument, _NO_VALUE
    return name, _python_literal(text) if text == "None" or text.startswith("{") else text


def _flatten(name: str, value: Any) -> Iterator[str]:
    if name.startswith(RESERVED_KEY) or name == "hydra":
        return
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(f"{name}.{key}", item)
    elif value is _NO_VALUE:
        yield name
    else:
        name = name.replace(".", "/") if name in NESTED_GROUPS else name
        yield f"{name}={'null' if value is None else value}"


def _python_literal(text: str) -> Any:
    """Evaluate a printed Python value; return other text, such as Hydra's syntax, as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
