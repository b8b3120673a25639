"""Everything the main process does with one run while it holds the lock of its folder."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from rich.console import Console

from accelerando.atomic_write import write_atomic
from accelerando.checks import UsageError
from accelerando.distributed import Team
from accelerando.interruption import Interrupted, SignalHandler
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.record import Recorder
from accelerando.runs.run_lock import RunLock
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.loop import Diverged, Loop
from accelerando.training.out_of_memory import OutOfMemory, batch_remedy, measurement_remedy
from accelerando.training.processes import explain_lost_process, start_other_ranks
from accelerando.training.progress_view import ProgressView
from accelerando.training.run_state import initial_state, keep_row_interval
from accelerando.training.task import Task
from accelerando.wandb_mirror import sweep_agent
from accelerando.wandb_mirror.client import mode_from_environment, resolve_mode
from accelerando.wandb_mirror.mirror import WandbMirror


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    Args:
        status: becomes the status of the run.
        message: the reason.
        traceback: of the error, if there was one.
        error: raised once ``state.json`` and W&B are up to date; None: the state is returned.
        stopped_by_sweep: whether a W&B sweep ended the run for good.
    """

    status: Status
    message: str = ""
    traceback: str = ""
    error: BaseException | None = None
    stopped_by_sweep: bool = False


class RunSession:
    """Train one run, keeping ``state.json`` and W&B consistent with what happens to it."""

    def __init__(
        self,
        task: Task,
        folder: RunFolder,
        lock: RunLock,
        team: Team,
        signals: SignalHandler,
        overrides: Sequence[str],
        console: Console,
    ) -> None:
        self._folder, self._lock, self._team = folder, lock, team
        self._signals, self._console = signals, console
        self._task = keep_row_interval(task, folder, console)
        self._start = Checkpoint.load(folder, task.device, console.print)
        self._state = initial_state(self._start, self._task, folder, overrides, console)
        self._mirror: WandbMirror | None = None

    def run(self) -> State:
        """Train to the end, or until a signal or an error.

        Returns:
            The final state.

        Raises:
            Interrupted: a signal asked to stop; a checkpoint was saved.
            UsageError: the device is out of memory; a checkpoint was saved.
        """
        for note in (*self._task.plan.notes, *self._task.notes()):
            self._console.print(f"note: {note}")
        write_atomic(self._folder.config, self._task.settings.to_yaml().encode())
        self._folder.write_state(self._state, self._lock, sync=True)
        outcome = self._train()
        self._close(outcome)
        if outcome.error is not None:
            raise outcome.error
        return self._state

    def _train(self) -> Outcome:
        """Train; every error becomes an outcome, so that W&B and the state are always closed."""
        try:
            self._open()
            self._loop()
        except Diverged as error:
            return Outcome(Status.DIVERGED, str(error))
        except (Interrupted, KeyboardInterrupt) as error:
            return self._interrupted(error)
        except OutOfMemory as error:
            usage_error = UsageError(f"{self._memory_advice(error)} ({error})")
            usage_error.__cause__ = error
            # the traceback names the layer that ran out of memory
            message = f"out of memory: {error}"
            return Outcome(Status.FAILED, message, traceback.format_exc(), usage_error)
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
            return Outcome(Status.FAILED, message, traceback.format_exc(), error)
        return Outcome(Status.FINISHED)

    def _open(self) -> None:
        """Start the other ranks and the W&B mirror."""
        try:
            start_other_ranks(self._team, self._start, self._task.settings.tracking.every)
            self._start_mirror()
        except Exception:
            # if a signal ended another rank or W&B's process, report the signal instead
            self._signals.check_interrupt()
            raise

    def _start_mirror(self) -> None:
        settings, state = self._task.settings, self._state
        requested = settings.tracking.mode.value
        mode, notify = resolve_mode(requested), self._console.print
        if mode == "disabled":
            return
        if mode == "offline" and requested == "auto" and not mode_from_environment():
            notify(
                "note: not logged in to W&B, tracking offline; run `wandb login` for live curves"
            )
        mirror = WandbMirror(self._folder, state, settings.tree, mode=mode, notify=notify)
        state.wandb.pop("rows", None)
        mirror.start(self._signals.check_interrupt)
        self._mirror = mirror  # only now: a mirror that did not start cannot be finished
        state.wandb |= mirror.location()
        # Until the mirror is closed, the number of rows that W&B has is unknown. Record that
        # durably: after a power cut the number of an earlier start must not come back.
        self._folder.write_state(state, self._lock, sync=True)

    def _loop(self) -> None:
        plan = self._task.plan
        lengths = (0, 0) if self._start is None else self._start.lengths
        view = ProgressView(self._console, epochs=plan.epochs, examples=plan.examples)
        recorder = Recorder(
            self._folder, self._lock, self._state, lengths, mirror=self._mirror, view=view
        )
        with view.bar, closing(recorder), explain_lost_process():
            recorder.replay()
            Loop(self._task, self._team, self._folder, recorder, self._start, self._signals).run()

    def _interrupted(self, error: BaseException) -> Outcome:
        outcome = Outcome(Status.INTERRUPTED, f"by {str(error) or 'SIGINT'}", error=error)
        try:
            # before anything else: the sender of the signal may not wait for the sweep and W&B
            self._update_state(outcome)
            if sweep_agent.stopped_by_sweep(self._signals):
                message = f"{outcome.message}: stopped by its sweep"
                return Outcome(Status.INTERRUPTED, message, stopped_by_sweep=True)
        # a second Ctrl-C, or another process took over the run
        except (KeyboardInterrupt, UsageError) as second:
            return replace(outcome, error=second)
        return outcome

    def _memory_advice(self, error: OutOfMemory) -> str:
        hardware = self._task.settings.hardware
        if error.measuring:
            chunk = self._task.settings.measure.chunk
            advice = measurement_remedy(chunk, self._task.published_batch())
        else:
            share = self._team.share(self._task.plan.largest_batch).stop
            advice = batch_remedy(self._task.model, min(share, hardware.micro_batch or share))
        return (
            f"out of memory in epoch {self._state.epoch} on {hardware.device}; a checkpoint was "
            f"saved, and the run resumes from it: {advice}"
        )

    def _close(self, outcome: Outcome) -> None:
        """Close the mirror, then write the final state.

        In this order: a run that is killed in between is not complete, and closes W&B again.
        """
        state = self._state
        self._set_outcome(outcome)
        if self._mirror is not None and self._mirror.finish(
            state, stopped_by_sweep=outcome.stopped_by_sweep
        ):
            state.wandb["rows"] = self._mirror.rows
            if self._mirror.mode == "online":
                state.wandb["synced"] = {"rows": self._mirror.rows, "status": state.status}
        self._update_state(outcome)

    def _set_outcome(self, outcome: Outcome) -> None:
        self._state.status, self._state.message = outcome.status, outcome.message
        self._state.traceback = outcome.traceback

    def _update_state(self, outcome: Outcome) -> None:
        self._set_outcome(outcome)
        try:
            self._folder.write_state(self._state, self._lock, sync=True)
        except OSError as error:
            # a full disk, for example; it must not replace the reason why the run stopped
            if outcome.status == Status.FINISHED:
                raise
            self._console.print(
                f"note: {self._folder.state} could not be written ({error.strerror})"
            )
