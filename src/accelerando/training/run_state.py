"""The state that a run begins with, and that of a run that could not begin."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace

from omegaconf import OmegaConf
from rich.console import Console
from yaml import YAMLError

from accelerando.atomic_write import write_atomic
from accelerando.checks import UsageError
from accelerando.config import RunSettings
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
    state = unbegun(task.settings, task.plan, overrides)
    state.status, state.environment = (
        Status.RUNNING,
        environment(task.device, task.settings.hardware),
    )
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


def keep_row_interval(task: Task, folder: RunFolder, console: Console) -> Task:
    """Keep the ``tracking.every`` that the run started with: W&B identifies rows by their number."""
    try:
        before = OmegaConf.load(folder.config).tracking.every
    except (OSError, ValueError, YAMLError, AttributeError):  # the first start, or corrupt
        return task
    if before == task.settings.tracking.every:
        return task
    console.print(f"note: tracking.every stays at {before}, the value that the run started with")
    return replace(task, settings=task.settings.with_row_interval(before))


@contextmanager
def record_failure(
    settings: RunSettings,
    plan: Plan,
    folder: RunFolder,
    overrides: Sequence[str],
    held: Callable[[], AbstractContextManager[RunLock]],
) -> Iterator[None]:
    """Leave word of what fails here in the run's folder: of one to go on with, or of a sweep.

    A new run that cannot begin leaves no folder; whoever started it is told.

    Args:
        settings: the run's settings.
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
                state = folder.readable_state() or unbegun(settings, plan, overrides)
                if not state.status.is_final:  # by the process that held it a moment ago
                    state.status, state.message = Status.FAILED, f"{type(error).__name__}: {error}"
                    state.traceback = traceback.format_exc()
                    write_atomic(folder.config, settings.to_yaml().encode())
                    folder.write_state(state, lock, sync=True)
        raise


def unbegun(settings: RunSettings, plan: Plan, overrides: Sequence[str]) -> State:
    """The state of a run that has not done a step, said to have failed until it begins."""
    identity = run_id(settings)
    return State(
        status=Status.FAILED,
        run=identity,
        dataset=settings.dataset.name,
        model=settings.model.name,
        scheduler=settings.scheduler.name,
        seed=settings.seed,
        epochs=plan.epochs,
        steps=plan.total_steps,
        overrides=list(overrides),
        # the token keeps colleagues with the same run apart, and a run deleted there sendable
        wandb={"id": f"{identity}-{secrets.token_hex(3)}"},
    )
