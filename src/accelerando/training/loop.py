"""The only training loop."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import nn

from accelerando.data.images import Batches, Images
from accelerando.interruption import Interrupted, Interruption
from accelerando.schedule import Plan, Progress
from accelerando.tracking.folder import RunFolder
from accelerando.tracking.record import Row
from accelerando.tracking.recorder import Recorder
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.measurement import Measurement
from accelerando.training.step import SgdStep


class Diverged(Exception):
    """The loss or the gradient is no longer finite."""


class Loop:
    """Trains one model by a plan, and measures it on the way.

    Args:
        plan: the schedule; asked at every step, by position.
        model: trained in place.
        step: updates the model by one batch.
        train: the training set, on the model's device.
        seed: of the run.
        measurement: what is measured, and when.
        every: steps between two training rows; an epoch's end makes a row too.
        save_seconds: time between two checkpoints.
        folder: where the checkpoint goes.
        recorder: where rows go.
        start: the checkpoint to go on from, if there is one.
        stop: asked between steps, and between chunks of a measurement, whether to go on.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        model: nn.Module,
        step: SgdStep,
        train: Images,
        seed: int,
        measurement: Measurement,
        every: int,
        save_seconds: float,
        folder: RunFolder,
        recorder: Recorder,
        start: Checkpoint | None,
        stop: Interruption,
    ) -> None:
        self._plan, self._model, self._step = plan, model, step
        self._batches, self._measurement = Batches(train, seed), measurement
        device = train.labels.device
        self._every, self._save_seconds = every, save_seconds
        self._folder, self._recorder, self._stop = folder, recorder, stop
        self._position, self._measured = Progress(), -1
        self._earlier_seconds = 0.0
        self._loss, self._count = torch.zeros((), dtype=torch.float64, device=device), 0
        if start is not None:
            self._restore(start)
        self._began = self._saved = time.monotonic()

    def run(self) -> None:
        """Train to the end of the plan.

        Raises:
            Interrupted: a signal asked to stop; a checkpoint was saved.
            Diverged: the loss or the gradient is no longer finite.
        """
        try:
            self._measure_if_due()
            while self._position.epoch < self._plan.epochs:
                self._advance()
                self._measure_if_due()
                self._save_if_due()
            self._save()
        except Interrupted:
            self._save()
            raise

    def _advance(self) -> None:
        position, setting = self._position, self._plan.setting(self._position)
        images, labels = self._batches.at(position.epoch, position.offset, setting.batch_size)
        self._loss += self._step(images, labels, setting.learning_rate)
        self._count += len(labels)
        self._position = self._plan.advance(position)
        # an epoch's end makes a row too, so that no window mixes two batch sizes
        if self._position.step % self._every == 0 or self._position.offset == 0:
            self._record_training()

    def _record_training(self) -> None:
        loss = float(self._loss) / self._count
        self._loss.zero_()
        self._count = 0
        self._recorder.trained(self._row(train_loss=loss))
        if not math.isfinite(loss):
            raise Diverged(f"the training loss is {loss}")

    def _measure_if_due(self) -> None:
        position = self._position
        if self._measured != position.step and self._measurement.due(position):
            self._measure()

    def _measure(self) -> None:
        found = self._measurement.take(self._model, self._position, self._stop.pause)
        self._recorder.measured(self._row(**found))
        self._measured = self._position.step
        for name in ("full_gradient_norm", "empirical_loss", "subset_gradient_norm"):
            if not math.isfinite(found.get(name, 0.0)):
                raise Diverged(f"the {name.replace('_', ' ')} is {found[name]}")

    def _row(self, **values: Any) -> Row:
        """A row at the current position; batch size and rate are those of the last step.

        Before the first step they are what that step will use.
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
        return self._earlier_seconds + time.monotonic() - self._began

    def _save_if_due(self) -> None:
        self._stop.pause()
        if time.monotonic() - self._saved > self._save_seconds:
            self._save()

    def _save(self) -> None:
        Checkpoint(
            position=self._position,
            measured=self._measured,
            lowest=self._recorder.state.full_gradient_norm,
            seconds=self._seconds(),
            lengths=self._recorder.lengths(),
            window=(self._loss, self._count),
            model=self._model.state_dict(),
            velocity=self._step.velocity,
            random=torch.get_rng_state(),
        ).save(self._folder.checkpoint)
        self._recorder.write_state()
        self._saved = time.monotonic()

    def _restore(self, start: Checkpoint) -> None:
        self._position, self._measured = start.position, start.measured
        self._earlier_seconds = start.seconds
        self._loss, self._count = start.window
        self._model.load_state_dict(start.model)
        self._step.velocity = start.velocity
        torch.set_rng_state(start.random)
