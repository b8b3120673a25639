"""Data sets that do not fit in memory: the same batches, read from files as needed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from accelerando.checks import UsageError
from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.interruption import signals_blocked, unblock_signals
from accelerando.randomness import Purpose, torch_seed
from accelerando.schedule import BatchSampler, Plan, Progress

ExampleKey = tuple[int, int]
"""Epoch and index of an example; epoch NOT_AUGMENTED reads it without augmentation."""
NOT_AUGMENTED = -1

READ_SIZE = 256
"""Examples that a worker reads at once; large batches are split so that workers share them."""

Transform = Callable[[Any], Any]
"""Maps a PIL image to a PIL image."""


@dataclass(frozen=True, kw_only=True)
class LabelledFiles:
    """Image files and their labels, shape (n,), int64."""

    paths: Sequence[str]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """A training and a test set in files.

    Args:
        train: files of the training set; ``test`` likewise.
        mean: mean of each channel, for pixels from 0 to 255; ``std`` likewise.
        shape: channels, height, width of the model's input.
        resize: deterministic transform of an image to that size.
    """

    train: LabelledFiles
    test: LabelledFiles
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int]
    resize: Transform


@dataclass(eq=False)
class ImageReader(Dataset[tuple[Tensor, int]]):
    """Reads and decodes images in the workers of a DataLoader.

    Args:
        files: the images.
        shape: channels, height, width of the result.
        resize: applied to images that are not augmented.
        augment: random transform of training images, None for none.
        seed: seed of the run.
    """

    files: LabelledFiles
    shape: tuple[int, int, int]
    resize: Transform
    augment: Transform | None
    seed: int = 0

    def __getitem__(self, key: ExampleKey) -> tuple[Tensor, int]:
        from PIL import Image

        epoch, index = key
        path = self.files.paths[index]
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except (OSError, SyntaxError) as error:  # Pillow raises either for corrupt files
            raise UsageError(f"{path} cannot be read as an image: replace the file") from error
        if epoch == NOT_AUGMENTED or self.augment is None:
            image = self.resize(image)
        else:
            # depends only on (seed, epoch, example), not on the worker or the batch
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(torch_seed(self.seed, Purpose.AUGMENTATION, epoch, index))
                image = self.augment(image)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return pixels, int(self.files.labels[index])

    def collate(self, examples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        """Stack examples; there are none if a batch is smaller than the number of processes."""
        images = [image for image, _ in examples]
        labels = torch.tensor([label for _, label in examples], dtype=torch.int64)
        return torch.stack(images) if images else torch.empty(0, *self.shape), labels


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedDataset:
    """Labelled images in files, with the interface of ``InMemoryDataset``.

    Args:
        reader: reads the images.
        labels: int64, shape (n,), on the device.
        mean: float32, shape (channels, 1, 1), on the device; ``std`` likewise.
        workers: number of reader processes; 0 reads in this process.
        channels_last: whether normalised images are in channels-last memory format.
        epoch: ``read`` augments the images as in this epoch.
    """

    reader: ImageReader
    labels: Tensor
    mean: Tensor
    std: Tensor
    workers: int
    channels_last: bool
    epoch: int = NOT_AUGMENTED

    def load(self, batches: Iterable[list[ExampleKey]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the normalised images and labels of each batch; the workers read ahead."""
        counts: deque[int] = deque()
        loader = DataLoader(
            self.reader,
            batch_sampler=_reads(batches, counts),
            num_workers=self.workers,
            collate_fn=self.reader.collate,
            pin_memory=self.labels.is_cuda,
            worker_init_fn=_ignore_signals_except_from_parent,
            generator=torch.Generator(),  # leaves the global generator, which is checkpointed
        )
        with signals_blocked():
            reads = iter(loader)
        try:
            for first in reads:
                yield self._to_device([first, *islice(reads, counts.popleft() - 1)])
        except UsageError as error:  # drop the traceback that the DataLoader adds to the message
            raise UsageError(str(error).strip().rpartition("UsageError: ")[2]) from error

    def _to_device(self, reads: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Concatenate the reads of a batch on the device and normalise the images."""
        moved = [[t.to(self.labels.device, non_blocking=True) for t in read] for read in reads]
        images, labels = moved[0] if len(moved) == 1 else map(torch.cat, zip(*moved, strict=True))
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        pixels = images.to(torch.float32, memory_format=order)
        return pixels.sub_(self.mean).div_(self.std), labels

    def read(self, parts: Sequence[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the normalised images and labels of each part."""
        indices = range(len(self.labels))
        lists = (indices[part] if isinstance(part, slice) else part.tolist() for part in parts)
        return self.load([[(self.epoch, index) for index in part] for part in lists])

    def augmented(self, *, seed: int, epoch: int) -> StreamedDataset:
        """Return the training set as augmented in one epoch."""
        self.reader.seed = seed
        return replace(self, epoch=epoch)

    def batches(self, plan: Plan, *, seed: int, team: Team = SINGLE_PROCESS) -> StreamedBatches:
        """Return the batches of a run."""
        self.reader.seed = seed
        return StreamedBatches(self, plan, seed, team)


class StreamedBatches:
    """Batches of a streamed training set, to be requested in the order of the plan.

    One DataLoader reads ahead over the entire run, so that neither a change of the batch size nor a
    new epoch restarts the workers. Only a request out of order restarts them.
    """

    def __init__(self, dataset: StreamedDataset, plan: Plan, seed: int, team: Team) -> None:
        self._dataset, self._plan, self._seed, self._team = dataset, plan, seed, team
        self._next: tuple[int, int] | None = None

    def at(self, epoch: int, offset: int, size: int) -> tuple[Tensor, Tensor]:
        """Return this process's share of the batch at ``offset``."""
        position = self._plan.at(epoch, offset)
        if self._next != (epoch, offset):
            self._batches = self._dataset.load(self._keys(position))
        batch = next(self._batches)
        after = self._plan.advance(position)
        self._next = after.epoch, after.offset
        return batch

    def _keys(self, start: Progress) -> Iterator[list[ExampleKey]]:
        """Yield the keys of this process's share of every batch."""
        rank, world_size = self._team.rank, self._team.world_size
        sampler = BatchSampler(
            self._plan, seed=self._seed, start=start, rank=rank, world_size=world_size
        )
        for position, batch in zip(self._plan.positions(start), sampler, strict=True):
            yield [(position.epoch, index) for index in batch]


def _reads(batches: Iterable[list[ExampleKey]], counts: deque[int]) -> Iterator[list[ExampleKey]]:
    """Split batches into reads of at most READ_SIZE; append the number of reads to ``counts``."""
    for batch in batches:
        begins = range(0, max(1, len(batch)), READ_SIZE)  # an empty batch is one read
        counts.append(len(begins))
        for begin in begins:
            yield batch[begin : begin + READ_SIZE]


def _ignore_signals_except_from_parent(_: int) -> None:
    """Let only the run's own process terminate this worker, which inherits blocked signals."""
    if sys.platform != "linux":  # elsewhere the sender of a signal is unknown
        unblock_signals([signal.SIGTERM])
        return
    parent = os.getppid()

    def exit_on_signal_from_parent() -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=exit_on_signal_from_parent, daemon=True).start()


def streamed_datasets(
    files: ImageFiles,
    device: torch.device,
    *,
    augmentation: Transform | None,
    workers: int,
    channels_last: bool,
) -> tuple[StreamedDataset, StreamedDataset]:
    """Return the training and the test set for a model on ``device``."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
        for values in (files.mean, files.std)
    )

    def dataset(part: LabelledFiles, augment: Transform | None) -> StreamedDataset:
        return StreamedDataset(
            reader=ImageReader(part, files.shape, files.resize, augment),
            labels=torch.from_numpy(part.labels).to(device),
            mean=mean,
            std=std,
            workers=workers,
            channels_last=channels_last,
        )

    return dataset(files.train, augmentation), dataset(files.test, None)
