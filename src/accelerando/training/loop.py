"""The training loop: steps, measurements and checkpoints at positions of a plan."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from accelerando.distributed import SINGLE_PROCESS, ProcessLost, Team
from accelerando.interruption import Interrupted
from accelerando.runs.folder import RunFolder
from accelerando.runs.record import Recorder, Row
from accelerando.schedule import Plan, Progress
from accelerando.torch_adapter import is_out_of_memory
from accelerando.training.checkpoint import Checkpoint, random_states, set_random_states
from accelerando.training.measurement import Execution, Measurement
from accelerando.training.out_of_memory import OutOfMemory
from accelerando.training.step import SgdStep


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


class BatchSource(Protocol):
    """Batches of the training set, by position."""

    def at(self, epoch: int, offset: int, size: int) -> tuple[Tensor, Tensor]:
        """Return images and labels of this process's share of the batch at a position."""
        ...


class Loop:
    """Train a model according to a plan, with measurements and checkpoints.

    Args:
        plan: the schedule: batch size and learning rate at each position.
        model: trained in place.
        step: updates the model with one batch.
        batches: batches of the training set, on the model's device.
        measurement: what to measure, and when.
        every: steps between two training rows; the end of an epoch adds a row.
        save_seconds: time between two checkpoints.
        save_epochs: epochs between two additional checkpoints; None: none.
        folder: the run folder, for checkpoints.
        recorder: receives the rows; None except in the main process.
        start: the checkpoint to resume from, if any.
        check_interrupt: called between steps; raises Interrupted if a signal asked to stop.
        team: the processes of the run.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        model: nn.Module,
        step: SgdStep,
        batches: BatchSource,
        measurement: Measurement,
        every: int,
        save_seconds: float,
        save_epochs: int | None,
        folder: RunFolder,
        recorder: Recorder | None,
        start: Checkpoint | None,
        check_interrupt: Callable[[], None],
        team: Team = SINGLE_PROCESS,
    ) -> None:
        self._plan, self._model, self._step, self._batches = plan, model, step, batches
        self._measurement, self._team = measurement, team
        self._every, self._save_seconds, self._save_epochs = every, save_seconds, save_epochs
        self._folder, self._recorder = folder, recorder
        self._check_interrupt = check_interrupt
        self._execution = Execution(team, check_interrupt)
        self._position, self._measured = Progress(), -1
        self._previous_seconds = 0.0
        device = next(model.parameters()).device
        self._loss, self._count = torch.zeros((), dtype=torch.float64, device=device), 0
        if start is not None:
            self._restore(start)
        buffers = list(model.buffers())
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
        # without synchronised BatchNorm each process has its own running statistics: use rank 0's
        self._team.broadcast(list(self._model.buffers()))
        values = self._measurement.take(self._model, self._position, self._execution)
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
        after_epoch = self._save_epochs and not (
            self._position.offset or self._position.epoch % self._save_epochs
        )
        if after_epoch or time.monotonic() - self._saved > self._save_seconds:
            self._save()

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
        torch._foreach_copy_(target, source)
