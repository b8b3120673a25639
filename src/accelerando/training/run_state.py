"""The state that a run begins with, and that of a run that could not begin."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from yaml import YAMLError

from accelerando.atomic_write import write_atomic
from accelerando.checks import UsageError
from accelerando.identity import run_id
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.run_lock import RunLock
from accelerando.schedule import Plan
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.device import ROUNDING, environment
from accelerando.training.task import Task
from accelerando.wandb_mirror import sweep_agent


def initial_state(
    start: Checkpoint | None,
    task: Task,
    folder: RunFolder,
    overrides: Sequence[str],
    console: Console,
) -> State:
    """The state to begin with: where the checkpoint stands, and what earlier starts made known."""
    state = unbegun(task.config, task.plan, overrides)
    state.status, state.environment = Status.RUNNING, environment(task.device, task.config.hardware)
    if start is not None:
        state.epoch, state.step = start.position.epoch, start.position.step
        state.progress = state.epoch + start.position.offset / task.plan.examples
        state.seconds, state.full_gradient_norm = start.seconds, start.lowest
    earlier = folder.read_state()
    if earlier is not None:
        state.wandb = earlier.wandb
        console.print(f"{earlier.status} earlier, going on from epoch {state.epoch}")
        # a start that failed before it knew its device has computed nothing there
        for key in ("commit", "torch", "device", "threads", "machine", "cpu", *ROUNDING):
            before, now = earlier.environment.get(key), state.environment[key]
            if earlier.environment and before != now:
                console.print(f"note: {key} was {before}, is {now}: results may differ")
    identity_there = sweep_agent.assigned_run_id()
    if identity_there is not None and identity_there != state.wandb["id"]:
        state.wandb = {
            "id": identity_there,
            "sweep": sweep_agent.sweep_id(),
        }  # nothing is known of that one
    return state


def check_cadence(config: DictConfig, folder: RunFolder, console: Console) -> None:
    """Make training rows where an earlier start made them: W&B's rows are told by their number."""
    try:
        before = OmegaConf.load(folder.config).tracking.every
    except (OSError, ValueError, YAMLError, AttributeError):  # the first start, or damaged
        return
    if before != config.tracking.every:
        console.print(f"note: tracking.every stays at {before}, with which the run began")
        config.tracking.every = before


@contextmanager
def record_failure(
    config: DictConfig,
    plan: Plan,
    folder: RunFolder,
    overrides: Sequence[str],
    held: Callable[[], AbstractContextManager[RunLock]],
) -> Iterator[None]:
    """Leave word of what fails here in the run's folder: of one to go on with, or of a sweep.

    A new run that cannot begin leaves no folder; whoever started it is told.

    Args:
        config: the run's settings.
        plan: its schedule.
        folder: where it is, or would be.
        overrides: the command line that made the settings.
        held: keeps other processes from working on the run meanwhile.
    """
    try:
        yield
    except Exception as error:
        if any(not path.name.startswith(".") for path in folder.path.glob("*")):
            with (
                suppress(UsageError, OSError),
                held() as lock,
            ):  # the first error is the one to tell
                state = folder.readable_state() or unbegun(config, plan, overrides)
                if not state.status.is_final:  # by the process that held it a moment ago
                    state.status, state.message = Status.FAILED, f"{type(error).__name__}: {error}"
                    state.traceback = traceback.format_exc()
                    write_atomic(folder.config, resolved(config).encode())
                    folder.write_state(state, lock, sync=True)
        raise


def unbegun(config: DictConfig, plan: Plan, overrides: Sequence[str]) -> State:
    """The state of a run that has not done a step, said to have failed until it begins."""
    identity = run_id(config)
    return State(
        status=Status.FAILED,
        run=identity,
        dataset=config.dataset.name,
        model=config.model.name,
        scheduler=config.scheduler.name,
        seed=config.seed,
        epochs=plan.epochs,
        steps=plan.total_steps,
        overrides=list(overrides),
        # the token keeps colleagues with the same run apart, and a run deleted there sendable
        wandb={"id": f"{identity}-{secrets.token_hex(3)}"},
    )


def to_plain(config: DictConfig) -> dict[str, Any]:
    """The settings, resolved, as plain values."""
    found = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def resolved(config: DictConfig) -> str:
    """The same as YAML."""
    return OmegaConf.to_yaml(OmegaConf.create(to_plain(config)))
