"""What a run measures, and at which positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from accelerando.checks import UsageError
from accelerando.config import MeasureDtype, MeasureSettings
from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.measure.augmented import augmented_gradient
from accelerando.measure.chunks import (
    DEFAULT_CHUNK,
    Chunks,
    Examples,
    never_interrupt,
    split_into_chunks,
)
from accelerando.measure.curvature import sharpness_of_chunks
from accelerando.measure.evaluation import evaluate
from accelerando.measure.full_gradient import full_gradient_of_chunks
from accelerando.measure.preserve_state import couples_examples, rejects_single_example
from accelerando.measure.published import PUBLISHED, published_gradient_norm
from accelerando.measure.subset import split_subset, stratified_subset, subset_gradient
from accelerando.randomness import Purpose, generator, permutation
from accelerando.schedule import Plan, Progress
from accelerando.training.batch_norm import smallest_micro_batch

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}

APPROXIMATE = {
    "full_gradient_norm": "approximate_gradient_norm",
    "empirical_loss": "approximate_loss",
    "train_accuracy": "approximate_accuracy",
    "layer_norms": "approximate_layer_norms",
    "gradient_variance": "approximate_gradient_variance",
    "gradient_variance_error": "approximate_gradient_variance_error",
    "noise_scale": "approximate_noise_scale",
}
"""Names of values measured in low precision: they must not be mistaken for the exact ones."""
FIRST_FIXED_DRAW = 2**40
"""Key of the first augmentation for ``measure.augmented``: above all epochs and steps of a run."""


class TrainingSet(Examples, Protocol):
    """A training set that can also be read augmented."""

    def augmented(self, *, seed: int, epoch: int) -> Examples: ...


@dataclass(frozen=True)
class MeasurementContext:
    """The processes that measure together, and the check between chunks; see ``Chunks``."""

    team: Team = SINGLE_PROCESS
    check_interrupt: Callable[[], None] = never_interrupt


class Measurement:
    """The measurements of one run. They change neither model nor data.

    Args:
        settings: what to measure and when.
        plan: for the end of the run and the batch size of ``measure.published``.
        data: the training and the test set.
        seed: the seed of the run; it determines the chunks.

    Raises:
        UsageError: the subset does not fit the data.
    """

    def __init__(
        self,
        settings: MeasureSettings,
        plan: Plan,
        data: tuple[TrainingSet, Examples],
        seed: int,
    ) -> None:
        self._settings, self._plan, self._seed = settings, plan, seed
        self._train, self._test = data
        self._every_steps = settings.every_steps
        self._sharpness_epochs = frozenset(settings.sharpness_epochs)
        random = generator(seed, Purpose.CHUNKS)
        order = torch.from_numpy(random.permutation(len(self._train.labels)))
        order = order.to(self._train.labels.device)
        self._parts = split_into_chunks(self._train, settings.chunk, order=order).indices
        if settings.subset is not None:
            self._classes = int(self._train.labels.max()) + 1
            try:
                self._subset = stratified_subset(self._train.labels, settings.subset, random)
            except ValueError as error:
                raise UsageError(f"measure.{error}") from error

    def check_model(self, model: nn.Module, shape: Sequence[int]) -> None:
        """Check that the settings can be measured on a model, which may be on the meta device.

        Raises:
            UsageError: the model does not allow a measurement that the settings ask for.
        """
        size, chunk = self._settings.subset, self._settings.chunk
        examples, coupled = len(self._train.labels), self._coupled(model)
        smallest = smallest_micro_batch(size or examples, 1, chunk)
        if coupled and smallest == 1 and rejects_single_example(model, shape):
            raise UsageError(
                f"with measure.chunk={chunk} a chunk has a single example, and BatchNorm cannot "
                "normalise the single value of its feature maps: set a larger measure.chunk, "
                "measure.batch_norm=running, or model.norm=group"
            )
        if coupled and size is not None and size <= chunk:
            raise UsageError(
                f"measure.subset={size} must be above measure.chunk={chunk} for models with "
                "BatchNorm, because the error is estimated from at least two chunks: set a larger "
                "subset, a smaller chunk, or measure.batch_norm=running"
            )
        if self._settings.variance and coupled:
            raise UsageError(
                "measure.variance needs per-example gradients, but BatchNorm couples the examples "
                "of a chunk: add measure.batch_norm=running, or use a model without BatchNorm"
            )
        if self._settings.variance and chunk >= examples:
            raise UsageError(
                f"measure.variance needs at least two chunks: measure.chunk must be below the "
                f"{examples} training examples, got {chunk}"
            )
        for name in self._settings.published:
            yardstick = PUBLISHED[name]
            if (
                yardstick.batch_size is not None
                and examples % yardstick.batch_size == 1
                and couples_examples(model, yardstick.batch_norm)
                and rejects_single_example(model, shape)
            ):
                raise UsageError(
                    f"measure.published={name} leaves a batch of a single of {examples} examples, "
                    "which BatchNorm cannot normalise: leave it out, or set dataset.examples"
                )

    def _coupled(self, model: nn.Module) -> bool:
        """Whether BatchNorm couples the examples of a chunk."""
        return couples_examples(model, self._settings.batch_norm.value)

    def due(self, position: Progress) -> bool:
        """Whether to measure at a position; always at the first and the last."""
        if position.step in (0, self._plan.total_steps) or self._sharpness_due(position):
            return True
        if self._every_steps is not None:
            return bool(position.step % self._every_steps == 0)
        if position.offset != 0:
            return False
        if self._settings.epochs is not None:
            return position.epoch in self._settings.epochs
        return bool(position.epoch % (self._settings.every_epochs or 1) == 0)

    def _sharpness_due(self, position: Progress) -> bool:
        return position.offset == 0 and position.epoch in self._sharpness_epochs

    def measure(
        self,
        model: nn.Module,
        position: Progress,
        context: MeasurementContext = MeasurementContext(),
    ) -> dict[str, Any]:
        """Measure, and return the values of a row; they are the same in every process of a team.

        Raises:
            RuntimeError: ``measure.check`` is set and two passes differ.
        """
        options = vars(context)
        train = Chunks(self._train, self._parts, **options)
        subset = self._settings.subset is not None
        row = self._subset_row(model, options) if subset else self._full_row(model, train)
        for name in self._settings.published:
            row[f"{name}_gradient_norm"] = self._published_norm(model, name, position, options)
        if self._settings.augmented is not None:
            row |= self._augmented_row(model, options)
        # not the errors of estimates, which may be nan
        finite = all(math.isfinite(row[name]) for name in row if name.endswith(("_norm", "_loss")))
        if finite and self._sharpness_due(position):
            name = "approximate_sharpness" if self._approximate else "sharpness"
            row[name] = sharpness_of_chunks(model, train, **self._gradient_options())
        test = evaluate(model, split_into_chunks(self._test, DEFAULT_CHUNK, **options))
        return row | {"test_loss": test.loss, "test_accuracy": test.accuracy}

    @property
    def _approximate(self) -> bool:
        return self._settings.dtype == MeasureDtype.bfloat16

    def _gradient_options(self) -> dict[str, Any]:
        name = self._settings.dtype
        dtype = None if name is None else DTYPES[name.value]
        return {"batch_norm": self._settings.batch_norm.value, "dtype": dtype}

    def _full_row(self, model: nn.Module, chunks: Chunks) -> dict[str, Any]:
        settings, options = self._settings, self._gradient_options()
        options |= {"per_layer": settings.per_layer, "variance": settings.variance}
        gradient = full_gradient_of_chunks(model, chunks, **options)
        if settings.check:
            again = full_gradient_of_chunks(model, chunks, **options)
            if repr(again) != repr(gradient):  # repr: nan equals nan
                raise RuntimeError(
                    f"two passes over the same weights differ: {gradient} and {again}"
                )
        row: dict[str, Any] = {
            "full_gradient_norm": gradient.norm,
            "empirical_loss": gradient.loss,
            "train_accuracy": gradient.accuracy,
        }
        if settings.per_layer:
            row["layer_norms"] = gradient.per_layer
        if settings.variance:
            row["gradient_variance"] = gradient.variance
            row["gradient_variance_error"] = gradient.variance_error
            row["noise_scale"] = gradient.noise_scale
        if not self._approximate:
            return row
        return {APPROXIMATE[name]: value for name, value in row.items()}

    def _subset_row(self, model: nn.Module, context: dict[str, Any]) -> dict[str, Any]:
        chunk, coupled = self._settings.chunk, self._coupled(model)
        parts = split_subset(self._subset, chunk, classes=self._classes, coupled=coupled)
        chunks = Chunks(self._train, parts, **context)
        examples, batch_norm = len(self._train.labels), self._settings.batch_norm.value
        estimate = subset_gradient(model, chunks, examples=examples, batch_norm=batch_norm)
        return {
            "subset_gradient_norm": estimate.norm,
            "subset_gradient_norm_error": estimate.error,
            "subset_loss": estimate.loss,
        }

    def _published_norm(
        self, model: nn.Module, name: str, position: Progress, context: dict[str, Any]
    ) -> float:
        yardstick = PUBLISHED[name]
        size = yardstick.batch_size or self._plan.last_setting(position).batch_size
        # fresh draws: no epoch of the run, nor another measurement, uses the same ones
        draw = self._plan.epochs + 1 + position.step
        order = torch.from_numpy(permutation(self._seed, draw, len(self._train.labels)))
        view = self._train.augmented(seed=self._seed, epoch=draw)
        batches = Chunks(view, torch.split(order.to(view.labels.device), size), **context)
        return published_gradient_norm(
            model,
            batches,
            batch_norm=yardstick.batch_norm,
            equal_weights=yardstick.equal_weights,
        )

    def _augmented_row(self, model: nn.Module, context: dict[str, Any]) -> dict[str, Any]:
        draws = range(FIRST_FIXED_DRAW, FIRST_FIXED_DRAW + (self._settings.augmented or 0))
        views = (self._train.augmented(seed=self._seed, epoch=draw) for draw in draws)
        estimate = augmented_gradient(
            model,
            [Chunks(view, self._parts, **context) for view in views],
            batch_norm=self._settings.batch_norm.value,
        )
        return {
            "augmented_gradient_norm": estimate.norm,
            "augmented_gradient_norm_error": estimate.error,
            "augmented_loss": estimate.loss,
        }
