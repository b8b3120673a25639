"""The part of a run that every process prepares: device, model, data, measurement and loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from accelerando.build import build, build_augmentation, load_data
from accelerando.config import RunSettings
from accelerando.data.in_memory import InMemoryDataset, in_memory_datasets
from accelerando.data.streaming import ImageFiles, StreamedDataset, streamed_datasets
from accelerando.distributed import Team
from accelerando.interruption import Interrupted, SignalHandler
from accelerando.measure.preserve_state import has_batch_norm
from accelerando.randomness import Purpose, torch_seed
from accelerando.runs.folder import RunFolder
from accelerando.runs.record import Recorder
from accelerando.schedule import Plan
from accelerando.schedule.plan import START
from accelerando.training.batch_norm import check_batches, convert_sync_batch_norm
from accelerando.training.checkpoint import Checkpoint
from accelerando.training.device import prepare_device
from accelerando.training.loop import Loop
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
        return self.plan.largest_batch if self.settings.measure.published else 0

    def step(self, team: Team, *, compiled: bool) -> SgdStep:
        """Return the update of the model."""
        return SgdStep(
            self.model,
            **vars(self.settings.optimizer),
            team=team,
            micro_batch=self.settings.hardware.micro_batch,
            precision=self.settings.precision.value,
            compiled=compiled,
        )

    def loop(
        self,
        team: Team,
        folder: RunFolder,
        recorder: Recorder | None,
        start: Checkpoint | None,
        signals: SignalHandler,
    ) -> Loop:
        """Return the training loop of this process."""
        settings, position = self.settings, START if start is None else start.position
        return Loop(
            plan=self.plan,
            model=self.model,
            step=self.step(team, compiled=settings.hardware.compile),
            batches=self.data[0].batches(self.plan, seed=settings.seed, start=position, team=team),
            measurement=self.measurement,
            every=settings.tracking.every,
            save_seconds=settings.checkpoint.seconds,
            save_epochs=settings.checkpoint.epochs,
            folder=folder,
            recorder=recorder,
            start=start,
            check_interrupt=_joint_interrupt_check(signals, team),
            team=team,
        )


def prepare_task(settings: RunSettings, plan: Plan, local_rank: int = 0) -> Task:
    """Build the model and load the data.

    Args:
        settings: the settings of the run.
        plan: the schedule of the run.
        local_rank: number of this process among those of the run on this machine.

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


def _joint_interrupt_check(signals: SignalHandler, team: Team) -> Callable[[], None]:
    """Return a check that raises Interrupted in every process of a team after the same step."""

    def check_interrupt() -> None:
        if team.any(signals.received is not None):
            signals.check_interrupt()
            raise Interrupted(None)

    return signals.check_interrupt if team.world_size == 1 else check_interrupt
