"""Train one run: find its state, lock its folder, and hand it to a ``RunSession``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console

from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.distributed import Team
from accelerando.identity import run_folder
from accelerando.interruption import Interrupted, SignalHandler
from accelerando.provenance import git_commit
from accelerando.runs.folder import RunFolder, State
from accelerando.runs.slurm_record import record_current_job
from accelerando.training.processes import (
    dismiss_other_ranks,
    launched_team,
    local_rank,
    run_other_rank,
    spawn_other_ranks,
)
from accelerando.training.run_session import RunSession
from accelerando.training.run_state import FailureRecorder
from accelerando.training.task import prepare_task
from accelerando.validation import validate
from accelerando.wandb_mirror import sweep_agent
from accelerando.wandb_mirror.client import resolve_mode
from accelerando.wandb_mirror.sync import report_to_sweep


def run(settings: RunSettings, overrides: Sequence[str], console: Console) -> State | None:
    """Train a run, resume it if it was interrupted, or report that it is complete.

    Args:
        settings: of the run.
        overrides: the command line that they were composed from; recorded, to repeat the run.
        console: where to show progress.

    Returns:
        The final state; None except in the main process of the run.

    Raises:
        UsageError: a setting is out of range, or another process is working on the run.
        Interrupted: a signal asked to stop; rerun the same command to resume. If a W&B sweep
            stopped the run for good, its state is returned instead.
    """
    with SignalHandler() as signals:
        try:
            with launched_team(settings.hardware.processes) as team:
                if team.is_main:
                    return _run_main_process(settings, overrides, console, team, signals)
                run_other_rank(settings, team, signals, local_rank())
                return None
        except Interrupted:
            # a later signal takes precedence: a job asked to save may be cancelled meanwhile
            signals.check_interrupt()
            raise


def _run_main_process(
    settings: RunSettings,
    overrides: Sequence[str],
    console: Console,
    team: Team,
    signals: SignalHandler,
) -> State:
    plan, folder = validate(settings), RunFolder(run_folder(settings))
    if (state := _completed(folder, console)) is not None:
        dismiss_other_ranks(team)
        if sweep_agent.sweep_id() and resolve_mode(settings.tracking.mode.value) == "online":
            report_to_sweep(folder, state, console.print)
        return state
    failures = FailureRecorder(settings, plan, folder, overrides)
    try:
        task = prepare_task(settings, plan, local_rank())
    except Exception as error:
        if failures.has_folder():
            with (
                suppress(UsageError, OSError),
                folder.locked(console.print, signals.check_interrupt) as lock,
            ):
                failures.record(error, lock)
        raise
    signals.check_interrupt()
    with folder.locked(console.print, signals.check_interrupt) as lock:
        # the previous owner of the lock may have completed the run
        if (state := _completed(folder, console)) is not None:
            dismiss_other_ranks(team)
            return state
        record_current_job(folder.path)
        try:
            # only under the lock: another process may have been using the device for this run
            task.check_memory()
        except Exception as error:
            if failures.has_folder():
                failures.record(error, lock)
            raise
        with spawn_other_ranks(settings, team) as team:
            return RunSession(task, folder, lock, team, signals, overrides, console).run()


def _completed(folder: RunFolder, console: Console) -> State | None:
    """Return the state of a run that is complete already, else None."""
    state = folder.readable_state()
    if state is None or not state.status.is_final:
        return None
    console.print(f"skipping {folder.path}: it has already {state.status}")
    if (before := state.environment.get("commit")) != git_commit():
        console.print(
            f"note: created by a different commit ({before}); remove the folder to train it again"
        )
    return state
