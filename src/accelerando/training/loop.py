"""The training loop: steps, measurements and checkpoints at positions of a plan."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from accelerando.distributed import ProcessLost, Team
from accelerando.interruption import Interrupted, SignalHandler
from accelerando.runs.folder import RunFolder
from accelerando.runs.record import Recorder, Row
from accelerando.schedule.plan import START
from accelerando.torch_adapter import foreach_copy_, is_out_of_memory
from accelerando.training.checkpoint import Checkpoint, random_states, set_random_states
from accelerando.training.measurement import MeasurementContext
from accelerando.training.out_of_memory import OutOfMemory
from accelerando.training.task import Task


class Diverged(Exception):
    """The loss or the gradient is no longer finite."""


MUST_BE_FINITE = (
    "full_gradient_norm",
    "approximate_gradient_norm",
    "subset_gradient_norm",
    "empirical_loss",
    "approximate_loss",
    "subset_loss",
)
"""Measured values that end the run as diverged if they are not finite."""


class Loop:
    """Train a model according to a plan, with measurements and checkpoints.

    ``recorder`` is None except in the main process; ``start`` is the checkpoint to resume from.
    """

    def __init__(
        self,
        task: Task,
        team: Team,
        folder: RunFolder,
        recorder: Recorder | None,
        start: Checkpoint | None,
        signals: SignalHandler,
    ) -> None:
        self._plan, self._model, self._measurement = task.plan, task.model, task.measurement
        self._step, self._every = task.step(team), task.settings.tracking.every
        self._checkpoint_settings = task.settings.checkpoint
        self._team, self._folder, self._recorder = team, folder, recorder
        self._signals = signals
        self._position, self._measured = START, -1
        self._previous_seconds = 0.0
        self._loss, self._count = torch.zeros((), dtype=torch.float64, device=task.device), 0
        if start is not None:
            self._restore(start)
        self._batches = task.data[0].batches(self._plan, seed=task.settings.seed, team=team)
        buffers = list(self._model.buffers())
        # one copy per dtype instead of one per buffer: fewer kernel launches on a GPU
        dtypes = dict.fromkeys(b.dtype for b in buffers)
        self._buffers = [[b for b in buffers if b.dtype == dtype] for dtype in dtypes]
        self._buffers_before_step = [[b.clone() for b in group] for group in self._buffers]
        self._started = self._saved = time.monotonic()

    def run(self) -> None:
        """Train to the end of the plan.

        Raises:
            Interrupted: a signal asked to stop; a checkpoint was saved.
            Diverged: the loss or the gradient is no longer finite.
            OutOfMemory: the device has too little memory for a step or a measurement.
            ProcessLost: another process of the run has ended.
        """
        try:
            self._measure_if_due()
            while self._position.epoch < self._plan.epochs:
                self._advance()
                self._measure_if_due()
                self._save_if_due()
            self._save()
        except (Interrupted, ProcessLost):
            # a step in which another process was lost has not updated the model of this process
            self._save()
            raise
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._save()
            raise OutOfMemory(str(error), measuring=self._measurement_due()) from error

    def _advance(self) -> None:
        position, setting = self._position, self._plan.setting(self._position)
        images, labels = self._batches.at(position.epoch, position.offset, setting.batch_size)
        count = min(setting.batch_size, self._plan.examples - position.offset)
        _copy(self._buffers, self._buffers_before_step)
        try:
            self._loss += self._step(images, labels, setting.learning_rate, count)
        except BaseException:
            # the forward pass of the incomplete step updated BatchNorm's running statistics
            _copy(self._buffers_before_step, self._buffers)
            raise
        self._count += count
        self._position = self._plan.advance(position)
        # also at the end of an epoch, so that no row averages over two batch sizes
        if self._position.step % self._every == 0 or self._position.offset == 0:
            self._record_training()

    def _record_training(self) -> None:
        loss = float(self._loss) / self._count
        self._loss.zero_()
        self._count = 0
        if self._recorder is not None:
            self._recorder.log_training(self._row(train_loss=loss))
        if not math.isfinite(loss):
            raise Diverged(f"the training loss is {loss}")

    def _measurement_due(self) -> bool:
        return self._measured != self._position.step and self._measurement.due(self._position)

    def _measure_if_due(self) -> None:
        if self._measurement_due():
            self._measure()

    def _measure(self) -> None:
        # without synchronised BatchNorm each process has different running statistics: use rank 0's
        self._team.broadcast(list(self._model.buffers()))
        context = MeasurementContext(self._team, self._check_interrupt)
        values = self._measurement.measure(self._model, self._position, context)
        if self._recorder is not None:
            self._recorder.log_measurement(self._row(**values))
        self._measured = self._position.step
        for name in MUST_BE_FINITE:
            if not math.isfinite(values.get(name, 0.0)):
                raise Diverged(f"the {name.replace('_', ' ')} is {values[name]}")

    def _row(self, **values: Any) -> Row:
        """Return a row at the current position, with batch size and rate of the last step.

        Before the first step, they are those of the first step.
        """
        position, examples = self._position, self._plan.examples
        setting = self._plan.last_setting(position)
        return {
            "epoch": position.epoch + (round(position.offset / examples, 6) or 0),
            "step": position.step,
            "examples": position.epoch * examples + position.offset,
            "batch_size": setting.batch_size,
            "learning_rate": setting.learning_rate,
            **values,
            "seconds": round(self._seconds(), 3),
        }

    def _seconds(self) -> float:
        return self._previous_seconds + time.monotonic() - self._started

    def _save_if_due(self) -> None:
        self._check_interrupt()
        every = self._checkpoint_settings
        after_epoch = every.epochs and not (
            self._position.offset or self._position.epoch % every.epochs
        )
        if after_epoch or time.monotonic() - self._saved > every.seconds:
            self._save()

    def _check_interrupt(self) -> None:
        """Raise Interrupted in every process of the team after the same step."""
        if self._team.any(self._signals.received is not None):
            raise Interrupted(self._signals.received)

    def _save(self) -> None:
        if self._recorder is None:
            return
        Checkpoint(
            position=self._position,
            measured=self._measured,
            lowest=self._recorder.state.full_gradient_norm,
            seconds=self._seconds(),
            lengths=self._recorder.sync(),
            window=(self._loss, self._count),
            model=self._model.state_dict(),
            velocity=self._step.velocity,
            random=random_states(self._loss.device),
        ).save(self._folder, self._recorder.lock)
        self._recorder.write_state()
        self._saved = time.monotonic()

    def _restore(self, start: Checkpoint) -> None:
        self._position, self._measured = start.position, start.measured
        self._previous_seconds = start.seconds
        self._loss, self._count = start.window
        self._model.load_state_dict(start.model)
        self._step.velocity = start.velocity
        set_random_states(start.random, self._loss.device)


def _copy(sources: list[list[Tensor]], targets: list[list[Tensor]]) -> None:
    for source, target in zip(sources, targets, strict=True):
        foreach_copy_(target, source)
