"""One run, from its settings to its last row."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from rich.console import Console

from accelerando.atomic_write import write_atomic
from accelerando.build import validate
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.distributed import Team
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted, SignalHandler
from accelerando.provenance import git_commit
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.record import Recorder
from accelerando.runs.run_lock import RunLock
from accelerando.runs.slurm_record import record_current_job
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.loop import Diverged
from accelerando.training.out_of_memory import OutOfMemory, batch_remedy, measurement_remedy
from accelerando.training.processes import (
    LEAVE,
    external_team,
    follow,
    lead,
    local_rank,
    stop_followers,
    with_followers,
)
from accelerando.training.progress_view import ProgressView
from accelerando.training.run_state import (
    initial_state,
    keep_row_interval,
    record_failure,
)
from accelerando.training.task import Task, prepare_task
from accelerando.wandb_mirror import sweep_agent
from accelerando.wandb_mirror.client import mode_from_environment, resolve_mode
from accelerando.wandb_mirror.mirror import WandbMirror, create_mirror
from accelerando.wandb_mirror.sync import report_to_sweep


def run(settings: RunSettings, overrides: Sequence[str], console: Console) -> State | None:
    """Train one run, go on with it where it was interrupted, or find it finished.

    Args:
        settings: the composed settings.
        overrides: the command line that made them, recorded so that it can be given again.
        console: where progress is shown.

    Returns:
        What became of the run; None in a process that does not lead its team.

    Raises:
        UsageError: a setting is out of range, or another process has the run; nothing was trained.
        Interrupted: a signal asked to stop; the same command goes on from there. A run that its
            sweep has given up is returned instead: nobody is to start it again.
    """
    with SignalHandler() as stop:
        try:
            return _run(settings, overrides, console, stop)
        except Interrupted:
            stop.check_interrupt()  # the last signal counts: what was told to save may be cancelled meanwhile
            raise


def _run(
    settings: RunSettings, overrides: Sequence[str], console: Console, stop: SignalHandler
) -> State | None:
    with external_team(settings.hardware.processes) as team:
        if not team.is_main:
            follow(settings, team, stop, local_rank())
            return None
        plan, folder = validate(settings), RunFolder(run_folder(settings))
        if (ended := _ended(folder, console)) is not None:
            team.broadcast_bytes(LEAVE)
            if sweep_agent.sweep_id() and resolve_mode(settings.tracking.mode.value) == "online":
                report_to_sweep(folder, ended, console.print)
            return ended
        held = partial(folder.locked, console.print, stop.check_interrupt)
        noted = partial(record_failure, settings, plan, folder, overrides)
        with noted(held):
            task = prepare_task(settings, plan, local_rank())
        stop.check_interrupt()
        with held() as lock:
            # the process that held it a moment ago may have finished it
            if (ended := _ended(folder, console)) is not None:
                team.broadcast_bytes(LEAVE)
                return ended
            record_current_job(folder.path)
            with noted(
                lambda: nullcontext(lock)
            ):  # not before: the device may be that of a run under way
                task.check_memory()
            with with_followers(settings, team) as team:
                return _train(Setting(task, folder, lock, overrides, console, team, stop))


def _ended(folder: RunFolder, console: Console) -> State | None:
    state = folder.readable_state()
    if state is None or not state.status.is_final:
        return None
    console.print(f"{state.status} already, nothing to do: {folder.path}")
    if state.environment.get("commit") != git_commit():
        console.print(f"note: by other code, {state.environment.get('commit')}; {_ANEW}")
    return state


_ANEW = "remove the folder to run it anew"


@dataclass(frozen=True)
class Setting:
    """A task with what is around it in the process that leads."""

    task: Task
    folder: RunFolder
    lock: RunLock
    overrides: Sequence[str]
    console: Console
    team: Team
    stop: SignalHandler


def _train(around: Setting) -> State:
    """Keep ``state.json`` and W&B true to what happens to the run."""
    folder = around.folder
    task = keep_row_interval(around.task, folder, around.console)
    around = replace(around, task=task)
    start = Checkpoint.load(folder, task.device, around.console.print)
    state = initial_state(start, task, folder, around.overrides, around.console)
    for note in (*task.plan.notes, *task.notes()):
        around.console.print(f"note: {note}")
    write_atomic(folder.config, task.settings.to_yaml().encode())
    folder.write_state(state, around.lock, sync=True)
    mirror, given_up = None, False
    try:
        mirror = _begin(around, state, start)
        _loop(around, state, start, mirror)
        state.status = Status.FINISHED
    except Diverged as error:
        state.status, state.message = Status.DIVERGED, str(error)
    except (Interrupted, KeyboardInterrupt) as error:
        state.status, state.message = Status.INTERRUPTED, f"by {str(error) or 'SIGINT'}"
        _write_last(around, state)  # whoever sent the signal may not wait for W&B
        given_up = sweep_agent.stopped_by_sweep(around.stop)
        if not given_up:
            raise
        state.message += ": the sweep has given it up"
    except OutOfMemory as error:
        state.status, state.message = Status.FAILED, f"out of memory: {error}"
        state.traceback = traceback.format_exc()  # it says which layer asked for how much
        raise UsageError(f"{_words(around, state, error)} ({error})") from error
    except BaseException as error:
        state.status, state.message = Status.FAILED, f"{type(error).__name__}: {error}"
        state.traceback = traceback.format_exc()
        raise
    finally:
        # W&B before the state: a run that is killed in between is not done, and does it again
        if mirror is not None and mirror.finish(state, stopped_by_sweep=given_up):
            state.wandb["rows"] = mirror.rows
            if mirror.mode == "online":
                state.wandb["synced"] = {"rows": mirror.rows, "status": state.status}
        _write_last(around, state)
    return state


def _write_last(around: Setting, state: State) -> None:
    """The state that the run ends with; a disk that has no room for it has its own error told."""
    try:
        around.folder.write_state(state, around.lock, sync=True)
    except OSError as error:
        if state.status == Status.FINISHED:
            raise
        around.console.print(f"note: {around.folder.state} could not be written ({error.strerror})")


def _words(around: Setting, state: State, error: OutOfMemory) -> str:
    """What to do where the memory of the device was not enough."""
    hardware, size = around.task.settings.hardware, around.task.plan.largest_batch
    if error.measuring:
        words = measurement_remedy(around.task.settings.measure.chunk, around.task.published())
    else:
        at_once = min(around.team.share(size).stop, hardware.micro_batch or size)
        words = batch_remedy(around.task.model, at_once)
    return (
        f"out of memory in epoch {state.epoch} on {hardware.device}; the run is saved and goes on "
        f"from there: {words}"
    )


def _loop(
    around: Setting, state: State, start: Checkpoint | None, mirror: WandbMirror | None
) -> None:
    plan, folder = around.task.plan, around.folder
    lengths = (0, 0) if start is None else start.lengths
    with ProgressView(around.console, epochs=plan.epochs, examples=plan.examples) as view:
        recorder = Recorder(folder, around.lock, state, lengths, mirror=mirror, view=view)
        with closing(recorder), stop_followers():
            around.task.loop(around.team, folder, recorder, start, around.stop).run()


def _begin(around: Setting, state: State, start: Checkpoint | None) -> WandbMirror | None:
    try:
        lead(around.team, start, around.task.settings.tracking.every)
        return _mirror(around, state)
    except Exception:
        # a signal may have ended another process of the run, or W&B's: then that is the reason
        around.stop.check_interrupt()
        raise


def _mirror(around: Setting, state: State) -> WandbMirror | None:
    settings, folder, console = around.task.settings, around.folder, around.console
    mode = resolve_mode(settings.tracking.mode.value)
    if mode == "disabled":
        return None
    if mode == "offline" and settings.tracking.mode.value == "auto" and not mode_from_environment():
        console.print("note: no login to W&B, so tracked offline: `wandb login` for live curves")
    mirror = create_mirror(folder, state, settings.tree, mode=mode, notify=console.print)
    state.wandb.pop("rows", None)
    mirror.start(around.stop.check_interrupt)
    state.wandb |= mirror.location()
    # from now on, until it is closed, nobody knows what W&B has: no power cut may bring back that
    # it has the rows of the earlier start
    folder.write_state(state, around.lock, sync=True)
    return mirror
