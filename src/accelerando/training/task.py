"""The part of a run that every process prepares: device, model, data, measurement and loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from accelerando.build import build, build_augmentation, load_data
from accelerando.config import RunSettings
from accelerando.data.in_memory import InMemoryDataset, in_memory_datasets
from accelerando.data.streaming import ImageFiles, StreamedDataset, streamed_datasets
from accelerando.distributed import Team
from accelerando.measure.preserve_state import has_batch_norm
from accelerando.measure.published import PUBLISHED
from accelerando.randomness import Purpose, torch_seed
from accelerando.schedule import Plan
from accelerando.training.batch_norm import check_batches, convert_sync_batch_norm
from accelerando.training.device import prepare_device
from accelerando.training.measurement import Measurement
from accelerando.training.memory import check_memory
from accelerando.training.precision import check_compiler, check_precision
from accelerando.training.step import SgdStep

Data = InMemoryDataset | StreamedDataset


@dataclass(frozen=True)
class Task:
    """Everything that one process needs for its part of a run; independent of the run folder."""

    settings: RunSettings
    plan: Plan
    device: torch.device
    model: nn.Module
    data: tuple[Data, Data]
    measurement: Measurement

    def notes(self) -> list[str]:
        """Return notes for the user on how BatchNorm sees the batches."""
        hardware, notes = self.settings.hardware, []
        if not has_batch_norm(self.model):
            return []
        if hardware.processes > 1 and not hardware.sync_batch_norm:
            notes.append(
                f"each of the {hardware.processes} processes computes BatchNorm statistics of "
                "its own share of a batch, so results differ from those of one process; set "
                "hardware.sync_batch_norm=true to use those of the whole batch"
            )
        share = Team(0, hardware.processes).share(self.plan.largest_batch).stop
        if (hardware.micro_batch or share) < share:
            notes.append(
                f"BatchNorm uses the statistics of micro-batches of {hardware.micro_batch} "
                "examples (hardware.micro_batch), so results differ from those of undivided batches"
            )
        return notes

    def check_memory(self) -> None:
        """Raise UsageError if the largest batch or a measurement does not fit in memory."""
        hardware, train = self.settings.hardware, self.data[0]
        share = Team(0, hardware.processes).share(self.plan.largest_batch)
        (example,) = train.read([slice(0, 1)])
        step = SgdStep(self.model, precision=self.settings.precision.value)
        check_memory(
            self.model,
            lambda images, labels: step.gradients(images, labels, len(labels)),
            example,
            batch_size=share.stop,
            micro_batch=hardware.micro_batch,
            chunk=min(self.settings.measure.chunk, len(train.labels)),
            published=self.published_batch(),
            processes=hardware.processes if self.device.type == "cpu" else 1,
        )

    def published_batch(self) -> int:
        """Size of the largest batch that ``measure.published`` passes at once; 0 if it is off."""
        sizes = [PUBLISHED[name].batch_size for name in self.settings.measure.published]
        return max((size or self.plan.largest_batch for size in sizes), default=0)

    def step(self, team: Team) -> SgdStep:
        """Return the update of the model."""
        return SgdStep(
            self.model,
            **vars(self.settings.optimizer),
            team=team,
            micro_batch=self.settings.hardware.micro_batch,
            precision=self.settings.precision.value,
            compiled=self.settings.hardware.compile,
        )


def prepare_task(settings: RunSettings, plan: Plan, local_rank: int = 0) -> Task:
    """Build the model and load the data.

    ``local_rank`` is the number of this process among those of the run on this machine.

    Raises:
        UsageError: the device or the data are not available, or settings do not fit together.
    """
    hardware = settings.hardware
    device = prepare_device(hardware.device, hardware.threads, local_rank)
    check_precision(settings.precision.value, device)
    if hardware.compile:
        check_compiler(device)
    model = seeded_model(settings)
    if hardware.sync_batch_norm:
        convert_sync_batch_norm(model)
    order = torch.channels_last if hardware.channels_last else torch.contiguous_format
    model = model.to(device, memory_format=order).train()  # type: ignore[call-overload]
    data = make_data(settings, device)
    measurement = Measurement(settings.measure, plan, data, settings.seed)
    measurement.check_model(model, settings.dataset.shape)
    check_batches(plan, settings.hardware, model, settings.dataset.shape)
    return Task(settings, plan, device, model, data, measurement)


def make_data(settings: RunSettings, device: torch.device) -> tuple[Data, Data]:
    """Load the training and the test set of a run."""
    loaded, augmentation = load_data(settings), build_augmentation(settings)
    order = {"channels_last": settings.hardware.channels_last}
    if isinstance(loaded, ImageFiles):
        workers = settings.hardware.workers
        return streamed_datasets(
            loaded, device, augmentation=augmentation, workers=workers, **order
        )
    return in_memory_datasets(loaded, device, augmentation=augmentation, **order)


def seeded_model(settings: RunSettings) -> nn.Module:
    """Build the model with the weights of the seed, then seed what it draws in training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(settings.seed, Purpose.WEIGHTS))
        model = build(
            "model",
            settings.model.target,
            shape=list(settings.dataset.shape),
            classes=settings.dataset.classes,
        )
    torch.manual_seed(torch_seed(settings.seed, Purpose.MODEL))
    return model  # type: ignore[no-any-return]
