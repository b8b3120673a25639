"""The only training loop."""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from accelerando.data.images import Batches, Images
from accelerando.interruption import Interrupted, Interruption
from accelerando.measure.evaluation import evaluate
from accelerando.measure.full_gradient import full_gradient
from accelerando.randomness import Purpose, generator
from accelerando.schedule import Plan, Progress
from accelerando.tracking.folder import RunFolder
from accelerando.tracking.record import Row
from accelerando.tracking.recorder import Recorder
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.step import SgdStep


class Diverged(Exception):
    """The loss or the gradient is no longer finite."""


class Loop:
    """Trains one model by a plan, measuring at the start and after every epoch.

    Args:
        plan: the schedule; asked at every step, by position.
        model: trained in place.
        step: updates the model by one batch.
        data: the training and the test set, on the model's device.
        seed: of the run.
        chunk: examples at a time in the full-gradient measurement.
        batch_norm: statistics that BatchNorm uses there.
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
        data: tuple[Images, Images],
        seed: int,
        chunk: int,
        batch_norm: str,
        every: int,
        save_seconds: float,
        folder: RunFolder,
        recorder: Recorder,
        start: Checkpoint | None,
        stop: Interruption,
    ) -> None:
        self._plan, self._model, self._step = plan, model, step
        self._train, self._test = data
        self._batches = Batches(self._train, seed)
        device = self._train.labels.device
        order = generator(seed, Purpose.CHUNKS).permutation(len(self._train))
        self._order = torch.from_numpy(order).to(device)
        self._chunk, self._batch_norm = chunk, batch_norm
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
        if self._position.offset == 0 and self._measured != self._position.step:
            self._measure()

    def _measure(self) -> None:
        train = self._train
        full = full_gradient(
            self._model,
            train.images,
            train.labels,
            chunk=self._chunk,
            batch_norm=self._batch_norm,
            order=self._order,
            prepare=train.normalised,
            pause=self._stop.pause,
        )
        test = evaluate(self._model, self._test)
        row = self._row(
            full_gradient_norm=full.norm,
            empirical_loss=full.loss,
            train_accuracy=full.accuracy,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
        )
        self._recorder.measured(row)
        self._measured = self._position.step
        if not (math.isfinite(full.norm) and math.isfinite(full.loss)):
            raise Diverged(f"the full gradient norm is {full.norm}, the loss {full.loss}")

    def _row(self, **values: float) -> Row:
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
