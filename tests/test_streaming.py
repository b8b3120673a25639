"""Streaming from ImageNet's folders: the same batches for any number of workers and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from accelerando.build import build_augmentation, load_data
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.data import streaming
from accelerando.data.streaming import StreamedDataset, streamed_datasets
from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.identity import run_folder
from accelerando.randomness import permutation
from accelerando.runs.folder import RunFolder
from accelerando.schedule import Constant, ExponentialBatch, Plan, Scheduler
from accelerando.validation import validate
from helpers import ROOT, identical, read_rows, start_process, train

Settings = Callable[..., RunSettings]
N, SIDE = 26, 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """JPEG files of several sizes in ImageNet's folders; one is greyscale."""
    random = np.random.default_rng(0)
    for part, count in (("train", N), ("val", 6)):
        for number in range(count):
            wnid = ("n01440764", "n01443537")[number % 2]
            path = tmp_path / "imagenet" / part / wnid / f"{wnid}_{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            height, width = random.integers(40, 70, 2)
            shape = (height, width) if number == 3 else (height, width, 3)
            Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return tmp_path / "imagenet"


@pytest.fixture
def small(settings: Settings, folder: Path) -> Callable[..., RunSettings]:
    return lambda *more: settings(
        "dataset=imagenet", f"dataset.folder={folder}", f"dataset.examples={N}",
        f"dataset.shape=[3,{SIDE},{SIDE}]", "dataset.classes=2", "epochs=3", "model=cnn",
        "scheduler.batch_size.initial=4", *more,
    )  # fmt: skip


def plan() -> Plan:
    sizes = ExponentialBatch(initial=4, growth=2, interval=1)
    return Scheduler(batch_size=sizes, learning_rate=Constant(initial=0.1)).bind(
        examples=N, epochs=3
    )


def open_datasets(
    config: RunSettings, workers: int, channels_last: bool = False
) -> tuple[StreamedDataset, StreamedDataset]:
    return streamed_datasets(
        load_data(config),  # type: ignore[arg-type]
        torch.device("cpu"),
        augmentation=build_augmentation(config),
        workers=workers,
        channels_last=channels_last,
    )


def read_run(dataset: StreamedDataset, team: Team = SINGLE_PROCESS) -> list[tuple[Tensor, Tensor]]:
    batches, schedule = dataset.batches(plan(), seed=5, team=team), plan()
    return [
        batches.at(p.epoch, p.offset, schedule.setting(p).batch_size) for p in schedule.positions()
    ]


def test_evaluation_images_equal_torchvision(
    small: Callable[..., RunSettings], folder: Path
) -> None:
    train_set, test_set = open_datasets(small(), 0)
    transform = transforms.Compose(
        [
            transforms.Resize(SIDE * 8 // 7),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    for split, dataset in (("train", train_set), ("val", test_set)):
        expected = ImageFolder(str(folder / split), transform)
        ((images, labels),) = dataset.read([slice(0, len(expected))])
        for number, (image, label) in enumerate(expected):
            torch.testing.assert_close(images[number], image, rtol=1e-4, atol=1e-5)
            assert int(labels[number]) == int(dataset.labels[number]) == label


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_follow_the_plan_for_any_number_of_workers(
    workers: int, small: Callable[..., RunSettings]
) -> None:
    train_set, _ = open_datasets(small(), workers)
    batches = read_run(train_set)
    assert [len(labels) for _, labels in batches] == [4] * 6 + [2] + [8] * 3 + [2] + [16, 10]
    order = np.concatenate([permutation(5, epoch, N) for epoch in range(3)])
    labels = torch.cat([labels for _, labels in batches])
    assert labels.tolist() == train_set.labels[torch.from_numpy(order)].tolist()
    again = read_run(open_datasets(small(), 0)[0])
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("team", [SINGLE_PROCESS, Team(2, 3)])
def test_large_batches_are_split_into_reads(
    team: Team, workers: int, small: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_run(open_datasets(small(), 0)[0], team)
    read_sizes: list[list[int]] = []

    def recording_loader(*arguments: Any, batch_sampler: Any, **more: Any) -> DataLoader[object]:
        read_sizes.append([])

        def reads() -> Iterator[list[Any]]:
            for read in batch_sampler:
                read_sizes[-1].append(len(read))
                yield read

        return DataLoader(*arguments, batch_sampler=reads(), **more)  # type: ignore[arg-type]

    monkeypatch.setattr(streaming, "READ_SIZE", 3)
    monkeypatch.setattr(streaming, "DataLoader", recording_loader)
    batches = read_run(open_datasets(small(), workers)[0], team)
    for batch, other in zip(batches, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))
    (sizes,) = read_sizes  # one loader per run, whose workers persist
    assert max(sizes) == 3
    assert sum(sizes) == sum(len(labels) for _, labels in expected)


@pytest.mark.parametrize("read_size", [3, 256])
def test_batches_have_the_requested_memory_format(
    read_size: int, small: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "READ_SIZE", read_size)
    for channels_last in (True, False):
        batches = read_run(open_datasets(small(), 0, channels_last)[0])
        order = torch.channels_last if channels_last else torch.contiguous_format
        assert all(images.is_contiguous(memory_format=order) for images, _ in batches)


def test_augmentation_is_independent_of_the_batch(small: Callable[..., RunSettings]) -> None:
    train_set, _ = open_datasets(small(), 0)
    order = torch.from_numpy(permutation(5, 1, N))
    augmented = train_set.augmented(seed=5, epoch=1)
    ((expected, _),) = augmented.read([order])
    parts = list(augmented.read(torch.split(order, 5)))
    assert torch.equal(expected, torch.cat([images for images, _ in parts]))
    second_epoch = torch.cat([images for images, labels in read_run(train_set)[7:11]])
    assert torch.equal(expected, second_epoch)
    ((other, _),) = train_set.augmented(seed=5, epoch=2).read([order])
    assert not torch.equal(expected, other)


def test_processes_share_every_batch(small: Callable[..., RunSettings]) -> None:
    batches = read_run(open_datasets(small(), 0)[0])
    shares = [read_run(open_datasets(small(), 0)[0], Team(rank, 3)) for rank in range(3)]
    for number, (images, labels) in enumerate(batches):
        assert torch.equal(images, torch.cat([share[number][0] for share in shares]))
        assert torch.equal(labels, torch.cat([share[number][1] for share in shares]))
    assert [len(share[6][1]) for share in shares] == [1, 1, 0]


def test_resumed_run_is_identical(small: Callable[..., RunSettings], tmp_path: Path) -> None:
    from accelerando.interruption import Interrupted
    from accelerando.training.step import SgdStep

    more = ("hardware.workers=2", "measure.published=true", "optimizer.momentum=0.9")
    uninterrupted, interrupted = small(*more, f"root={tmp_path}/uninterrupted"), small(*more)
    train(uninterrupted)
    call, count = SgdStep.__call__, iter(range(100))
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Interrupted):

        def interrupt(self: SgdStep, *arguments: object) -> Tensor:
            if next(count) == 5:
                raise Interrupted(signal.SIGTERM)
            return call(self, *arguments)  # type: ignore[arg-type]

        patched.setattr(SgdStep, "__call__", interrupt)
        train(interrupted)
    train(interrupted)
    folders = [RunFolder(run_folder(config)) for config in (uninterrupted, interrupted)]
    assert identical(*folders)
    assert len(read_rows(folders[0].record)) == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_run_is_saved_when_its_process_group_is_signalled(
    number: signal.Signals, folder: Path, tmp_path: Path
) -> None:
    process = start_process(
        [
            sys.executable, str(ROOT / "train.py"), "dataset=imagenet", f"dataset.folder={folder}",
            f"dataset.examples={N}", f"dataset.shape=[3,{SIDE},{SIDE}]", "dataset.classes=2",
            "epochs=2000", "model=cnn", "scheduler=decay_constant", "hardware.workers=2",
            "scheduler.batch_size.initial=4", "tracking=disabled", f"root={tmp_path}/group",
        ],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any((tmp_path / "group").glob("*/*/*/steps.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(2)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("content", [b"nonsense", b""])
def test_corrupt_image_is_reported(
    workers: int, content: bytes, small: Callable[..., RunSettings], folder: Path
) -> None:
    path = min((folder / "train").glob("*/*"))
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"^{path} cannot be read as an image: replace the file$"):
        train(small(f"hardware.workers={workers}"))


def test_missing_or_inconsistent_folders_are_reported(
    settings: Settings, small: Callable[..., RunSettings], folder: Path
) -> None:
    with pytest.raises(UsageError, match="data not available: ImageNet: /nowhere lacks") as caught:
        validate(settings("dataset=imagenet", "dataset.folder=/nowhere"))
    assert "https://image-net.org/download" in str(caught.value)
    with pytest.raises(UsageError, match=r"has 26 training images .* examples=27"):
        load_data(small("dataset.examples=27"))
    with pytest.raises(UsageError, match=r"has 2 classes .* classes=3"):
        load_data(small("dataset.classes=3"))
    (folder / "val" / "n01443537").rename(folder / "val" / "n02")
    with pytest.raises(UsageError, match=r"has n01443537, n02 in only one of train and val"):
        load_data(small())
    (folder / "val" / "n02").rename(folder / "n02")
    (folder / "val" / "n01443537").mkdir()
    with pytest.raises(UsageError, match=r"Found no valid file for the classes n01443537\."):
        load_data(small())
