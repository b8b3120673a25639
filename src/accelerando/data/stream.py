"""A data set too large for memory: the same batches, read from its files as they are needed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from accelerando.checks import UsageError
from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.interruption import signals_blocked
from accelerando.randomness import Purpose, torch_seed
from accelerando.schedule import BatchSampler, Plan, Progress

Key = tuple[int, int]
"""Epoch, or -1 for the view without augmentation, and number of an example."""

PIECE = 256
"""Examples that a worker reads at a time: of a large batch it holds a piece, as others do."""

Transform = Callable[[Any], Any]
"""From one PIL image to another."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """Image files and their labels, shape (n,), int64."""

    paths: Sequence[str]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Streams:
    """A training and a test set on disk.

    Args:
        train: files of the training set; ``test`` likewise.
        mean: per channel, in units of 0 to 255; ``std`` likewise.
        shape: channels, height, width of an image as the model takes it.
        view: makes an image of that size, always the same.
    """

    train: Files
    test: Files
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int]
    view: Transform


class Decoder(Dataset[tuple[Tensor, int]]):
    """Opens and decodes images; used by the workers of a DataLoader."""

    def __init__(
        self, files: Files, shape: tuple[int, int, int], view: Transform, augment: Transform | None
    ) -> None:
        self._files, self.shape, self._view, self._augment = files, shape, view, augment
        self.seed = 0

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        from PIL import Image

        epoch, index = key
        path = self._files.paths[index]
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except (OSError, SyntaxError) as error:  # what Pillow raises of a damaged file
            raise UsageError(f"{path} cannot be read as an image: get it anew") from error
        if epoch < 0 or self._augment is None:
            image = self._view(image)
        else:
            # the draws of (seed, epoch, example), whichever worker or batch it is in
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(torch_seed(self.seed, Purpose.AUGMENTATION, epoch, index))
                image = self._augment(image)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return pixels, int(self._files.labels[index])

    def collate(self, examples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        """A batch; it may be empty, of a batch smaller than the team."""
        images = [image for image, _ in examples]
        labels = torch.tensor([label for _, label in examples], dtype=torch.int64)
        return torch.stack(images) if images else torch.empty(0, *self.shape), labels


class Stream:
    """A labelled set on disk, as ``Images`` is one in memory.

    Args:
        decoder: reads its images.
        labels: int64, shape (n,), on the device.
        mean: float32, shape (channels, 1, 1), on the device; ``std`` likewise.
        workers: processes that read; 0: this one.
        channels_last: the order in memory that a model is given.
    """

    def __init__(
        self,
        decoder: Decoder,
        labels: Tensor,
        mean: Tensor,
        std: Tensor,
        *,
        workers: int,
        channels_last: bool,
    ) -> None:
        self._decoder, self.labels, self._mean, self._std = decoder, labels, mean, std
        self._workers, self._channels_last = workers, channels_last

    def load(self, keys: Iterable[list[Key]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and labels of each list of keys, read ahead by the workers."""
        pieces: Any = _Pieces(keys)
        loader = DataLoader(
            self._decoder,
            batch_sampler=pieces,
            num_workers=self._workers,
            collate_fn=self._decoder.collate,
            pin_memory=self.labels.is_cuda,
            worker_init_fn=_leave_signals_to_the_run,
            generator=torch.Generator(),  # the global one is part of what a checkpoint holds
        )
        with signals_blocked():
            read = iter(loader)
        try:
            for first in read:
                yield self._batch([first, *islice(read, pieces.counts.popleft() - 1)])
        except UsageError as error:  # a worker's comes with its traceback before it
            raise UsageError(str(error).strip().rpartition("UsageError: ")[2]) from error

    def _batch(self, pieces: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Their images, normalised, and labels, on the device."""
        there = [[t.to(self.labels.device, non_blocking=True) for t in piece] for piece in pieces]
        images, labels = there[0] if len(there) == 1 else map(torch.cat, zip(*there, strict=True))
        order = torch.channels_last if self._channels_last else torch.contiguous_format
        pixels = images.to(torch.float32, memory_format=order)
        return pixels.sub_(self._mean).div_(self._std), labels

    def read(
        self, parts: Sequence[Tensor | slice], epoch: int = -1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and labels of each part; no augmentation, unless of an epoch."""
        everything = range(len(self.labels))
        numbers = (everything[part] if isinstance(part, slice) else part.tolist() for part in parts)
        return self.load([[(epoch, index) for index in part] for part in numbers])

    def augmented(self, *, seed: int, epoch: int) -> StreamView:
        """The training set as it is seen in one epoch."""
        self._decoder.seed = seed
        return StreamView(self, epoch)

    def batches(
        self, plan: Plan, *, seed: int, start: Progress, team: Team = SINGLE_PROCESS
    ) -> StreamBatches:
        """The batches of a run, from ``start`` on."""
        self._decoder.seed = seed
        return StreamBatches(self, plan, seed, team)


def _leave_signals_to_the_run(_: int) -> None:
    """In a worker, where signals wait: only the run that it reads for may end it."""
    if sys.platform != "linux":  # nowhere else can be told who sent one
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        return
    run = os.getppid()

    def leave() -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != run:
            pass
        os._exit(0)

    threading.Thread(target=leave, daemon=True).start()


class StreamView:
    """A streamed training set as it is seen in one epoch, augmented."""

    def __init__(self, stream: Stream, epoch: int) -> None:
        self._stream, self._epoch, self.labels = stream, epoch, stream.labels

    def read(self, parts: Sequence[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        return self._stream.read(parts, self._epoch)


class StreamBatches:
    """Batches of a streamed training set, asked for in the order of the plan.

    One DataLoader reads ahead over the whole run: a change of the batch size, or of the epoch,
    restarts no worker. Asked for another position than the next it begins anew from there.
    """

    def __init__(self, stream: Stream, plan: Plan, seed: int, team: Team) -> None:
        self._stream, self._plan, self._seed, self._team = stream, plan, seed, team
        self._next: tuple[int, int] | None = None

    def at(self, epoch: int, offset: int, size: int) -> tuple[Tensor, Tensor]:
        """This process's share of the batch that begins at ``offset``."""
        position = self._plan.at(epoch, offset)
        if self._next != (epoch, offset):
            self._batches = self._stream.load(_Keys(self._plan, self._seed, position, self._team))
        batch = next(self._batches)
        after = self._plan.advance(position)
        self._next = after.epoch, after.offset
        return batch


class _Keys:
    """Keys of the examples of every batch of this process."""

    def __init__(self, plan: Plan, seed: int, start: Progress, team: Team) -> None:
        self._plan, self._start = plan, start
        self._sampler = BatchSampler(
            plan, seed=seed, start=start, rank=team.rank, world_size=team.world_size
        )

    def __iter__(self) -> Iterator[list[Key]]:
        for position, batch in zip(self._plan.positions(self._start), self._sampler, strict=True):
            yield [(position.epoch, index) for index in batch]


class _Pieces:
    """Keys of batches in lists of at most ``PIECE``, and how many lists make up each batch."""

    def __init__(self, keys: Iterable[list[Key]]) -> None:
        self._keys = keys
        self.counts: deque[int] = deque()
        """Of the batches that are read ahead."""

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in self._keys:
            starts = range(0, max(1, len(batch)), PIECE)  # an empty batch is a piece too
            self.counts.append(len(starts))
            for start in starts:
                yield batch[start : start + PIECE]


def streamed(
    streams: Streams,
    device: torch.device,
    *,
    augmentation: Transform | None,
    workers: int,
    channels_last: bool,
) -> tuple[Stream, Stream]:
    """The training and the test set of ``streams``, for a model on ``device``."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
        for values in (streams.mean, streams.std)
    )

    def open_(files: Files, augment: Transform | None) -> Stream:
        decoder = Decoder(files, streams.shape, streams.view, augment)
        labels = torch.from_numpy(files.labels).to(device)
        return Stream(decoder, labels, mean, std, workers=workers, channels_last=channels_last)

    return open_(streams.train, augmentation), open_(streams.test, None)
