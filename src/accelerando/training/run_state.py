"""The initial state of a run, and the record of a failure before training starts."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import yaml
from rich.console import Console

from accelerando.atomic_write import write_atomic
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.identity import run_id
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.run_lock import RunLock
from accelerando.schedule import Plan
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.device import HARDWARE_AFFECTING_ROUNDING, environment
from accelerando.training.task import Task
from accelerando.wandb_mirror import sweep_agent

_COMPARED = "commit", "torch", "device", "threads", "machine", "cpu", *HARDWARE_AFFECTING_ROUNDING
"""Entries of the environment that must stay the same for a bitwise identical resume."""


def initial_state(
    start: Checkpoint | None,
    task: Task,
    folder: RunFolder,
    overrides: Sequence[str],
    console: Console,
) -> State:
    """Return the state at ``start``, with what earlier starts of the run recorded.

    Prints a note for each part of the environment that changed since the last start.
    """
    state = new_state(task.settings, task.plan, overrides)
    state.status = Status.RUNNING
    state.environment = environment(task.device, task.settings.hardware)
    if start is not None:
        state.epoch, state.step = start.position.epoch, start.position.step
        state.progress = state.epoch + start.position.offset / task.plan.examples
        state.seconds, state.full_gradient_norm = start.seconds, start.lowest
    previous = folder.read_state()
    if previous is not None:
        state.wandb = previous.wandb
        console.print(f"resuming from epoch {state.epoch} (last status: {previous.status})")
        # empty if the last start failed before it selected a device, and so computed nothing
        for key in _COMPARED if previous.environment else ():
            before, now = previous.environment.get(key), state.environment[key]
            if before != now:
                console.print(f"note: {key} was {before}, is {now}: results may differ")
    assigned_id = sweep_agent.assigned_run_id()
    if assigned_id is not None and assigned_id != state.wandb["id"]:
        # a different W&B run, so discard what was recorded about the previous one
        state.wandb = {"id": assigned_id, "sweep": sweep_agent.sweep_id()}
    return state


def keep_row_interval(task: Task, folder: RunFolder, console: Console) -> Task:
    """Keep the initial ``tracking.every``: W&B identifies rows by their number."""
    try:
        before = yaml.safe_load(folder.config.read_text())["tracking"]["every"]
    # the first start, or corrupt
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        return task
    if before == task.settings.tracking.every:
        return task
    console.print(f"note: tracking.every stays at {before}, the value that the run started with")
    return replace(task, settings=task.settings.with_row_interval(before))


@dataclass(frozen=True)
class FailureRecorder:
    """Records in the run folder why a run could not start.

    The folder exists if the run was started before or belongs to a sweep. None is created for a new
    run that cannot start.
    """

    settings: RunSettings
    plan: Plan
    folder: RunFolder
    overrides: Sequence[str]

    def has_folder(self) -> bool:
        """Return whether the folder holds files other than the lock."""
        return any(not path.name.startswith(".") for path in self.folder.path.glob("*"))

    def record(self, error: Exception, lock: RunLock) -> None:
        """Write the error that is being handled to the folder, unless the run has ended."""
        with suppress(UsageError, OSError):  # the first error is more informative
            state = self.folder.readable_state() or new_state(
                self.settings, self.plan, self.overrides
            )
            if not state.status.is_final:  # by the previous owner of the lock
                state.status, state.message = Status.FAILED, f"{type(error).__name__}: {error}"
                state.traceback = traceback.format_exc()
                write_atomic(self.folder.config, self.settings.to_yaml().encode())
                self.folder.write_state(state, lock, sync=True)


def new_state(settings: RunSettings, plan: Plan, overrides: Sequence[str]) -> State:
    """Return the state of a run before its first step; it counts as failed until it starts."""
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
        # With a random suffix, two people can track the same run in one W&B project, and a run
        # that was deleted in W&B, which never reuses an id, can be sent again.
        wandb={"id": f"{identity}-{secrets.token_hex(3)}"},
    )
