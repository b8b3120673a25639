"""What a run measures, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from accelerando.checks import UsageError
from accelerando.config import Norm
from accelerando.data.images import Batches, Images
from accelerando.measure import evaluate, full_gradient, published_gradient_norm, sharpness
from accelerando.measure.full_gradient import FullGradient
from accelerando.measure.subset import stratified, subset_gradient
from accelerando.measure.untouched import has_batch_norm
from accelerando.randomness import Purpose, generator
from accelerando.schedule import Plan, Progress

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Measurement:
    """The measurements of one run; they see the model and the data, and leave both as they were.

    Args:
        settings: the group ``measure`` of the run.
        plan: says where the run ends, and the batch size that the published way depends on.
        data: the training and the test set.
        seed: of the run; it fixes the chunks.

    Raises:
        UsageError: the subset does not fit the data.
    """

    def __init__(
        self, settings: DictConfig, plan: Plan, data: tuple[Images, Images], seed: int
    ) -> None:
        self._settings, self._plan, self._seed = settings, plan, seed
        self._train, self._test = data
        random = generator(seed, Purpose.CHUNKS)
        order = random.permutation(len(self._train))
        self._order = torch.from_numpy(order).to(self._train.labels.device)
        if settings.subset is not None:
            try:
                self._subset = stratified(self._train.labels, settings.subset, random)
            except ValueError as error:
                raise UsageError(f"measure.{error}") from error

    def suits(self, model: nn.Module) -> None:
        """Raise UsageError where ``model`` does not allow what is to be measured."""
        if not self._settings.variance:
            return
        if self._settings.batch_norm == Norm.batch and has_batch_norm(model):
            raise UsageError(
                "measure.variance is that of per-example gradients, and BatchNorm couples the "
                "examples of a chunk: add measure.batch_norm=running, or take another model"
            )
        if self._settings.chunk >= len(self._train):
            raise UsageError(
                f"measure.variance needs at least two chunks: make measure.chunk smaller than the "
                f"{len(self._train)} training examples, got {self._settings.chunk}"
            )

    def due(self, position: Progress) -> bool:
        """Whether to measure here: the first and last positions always."""
        if position.step in (0, self._plan.total_steps):
            return True
        if self._settings.every_steps is not None:
            return bool(position.step % self._settings.every_steps == 0)
        if position.offset != 0:
            return False
        if self._settings.epochs is not None:
            return position.epoch in self._settings.epochs
        return bool(position.epoch % (self._settings.every_epochs or 1) == 0)

    def take(
        self, model: nn.Module, position: Progress, pause: Callable[[], None]
    ) -> dict[str, Any]:
        """The measured columns of the record's row.

        Raises:
            RuntimeError: two passes were asked to agree bitwise and do not.
        """
        settings, train = self._settings, self._train
        common = {
            "chunk": settings.chunk,
            "batch_norm": settings.batch_norm.value,
            "prepare": train.normalised,
            "pause": pause,
        }
        exact = common | {
            "order": self._order,
            "dtype": None if settings.dtype is None else DTYPES[settings.dtype.value],
        }
        row: dict[str, Any] = {}
        if settings.subset is None:
            row |= self._full(model, exact)
        else:
            part = subset_gradient(model, train.images, train.labels, self._subset, **common)
            row |= {
                "subset_gradient_norm": part.norm,
                "subset_gradient_norm_error": part.error,
                "subset_loss": part.loss,
            }
        if settings.published:
            row["published_gradient_norm"] = self._published(model, position, pause)
        if position.offset == 0 and position.epoch in settings.sharpness_epochs:
            row["sharpness"] = sharpness(model, train.images, train.labels, **exact)
        test = evaluate(model, self._test)
        return row | {"test_loss": test.loss, "test_accuracy": test.accuracy}

    def _full(self, model: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
        settings, train = self._settings, self._train
        wanted = {"per_layer": settings.per_layer, "variance": settings.variance}

        def measure() -> FullGradient:
            return full_gradient(model, train.images, train.labels, **arguments, **wanted)

        found = measure()
        if settings.check and (again := measure()) != found:
            raise RuntimeError(f"two passes over the same weights differ: {found}, then {again}")
        row: dict[str, Any] = {
            "full_gradient_norm": found.norm,
            "empirical_loss": found.loss,
            "train_accuracy": found.accuracy,
        }
        if settings.per_layer:
            row["layer_norms"] = found.per_layer
        if settings.variance:
            row["gradient_variance"] = found.variance
            row["gradient_variance_error"] = found.variance_error
            row["noise_scale"] = found.noise_scale
        return row

    def _published(self, model: nn.Module, position: Progress, pause: Callable[[], None]) -> float:
        """With the batch size, and in the order, of the epoch that was trained last."""
        size = self._plan.last_setting(position).batch_size
        epoch = max(0, position.epoch - (position.offset == 0))
        batches = Batches(self._train, self._seed)
        offsets = range(0, len(self._train), size)
        return published_gradient_norm(
            model, (batches.at(epoch, offset, size) for offset in offsets), pause=pause
        )
