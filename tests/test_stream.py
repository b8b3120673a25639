"""ImageNet's layout on disk, streamed: the batches of the plan, whoever reads them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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

import accelerando.data.stream as stream_module
from accelerando.build import build_augmentation, load_data, validate
from accelerando.checks import UsageError
from accelerando.config import RunSettings
from accelerando.data.stream import Stream, streamed
from accelerando.distributed import SINGLE_PROCESS, Team
from accelerando.identity import run_folder
from accelerando.randomness import permutation
from accelerando.runs.folder import RunFolder
from accelerando.schedule import Constant, ExponentialBatch, Plan, Scheduler
from accelerando.schedule.plan import START
from conftest import ROOT, begin
from test_run import lines, same, train

Settings = Callable[..., RunSettings]
N, SIDE = 26, 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """JPEGs of several sizes in ImageNet's layout; one is grey."""
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


def opened(config: RunSettings, workers: int, channels_last: bool = False) -> tuple[Stream, Stream]:
    loaded = load_data(config)
    return streamed(  # type: ignore[arg-type]
        loaded,
        torch.device("cpu"),
        augmentation=build_augmentation(config),
        workers=workers,
        channels_last=channels_last,
    )


def run_through(stream: Stream, team: Team = SINGLE_PROCESS) -> list[tuple[Tensor, Tensor]]:
    batches, schedule = stream.batches(plan(), seed=5, start=START, team=team), plan()
    return [
        batches.at(p.epoch, p.offset, schedule.setting(p).batch_size) for p in schedule.positions()
    ]


def test_the_fixed_view_is_that_of_torchvision(
    small: Callable[..., RunSettings], folder: Path
) -> None:
    train_set, test_set = opened(small(), 0)
    view = transforms.Compose(
        [
            transforms.Resize(SIDE * 8 // 7),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    for part, stream in (("train", train_set), ("val", test_set)):
        expected = ImageFolder(str(folder / part), view)
        (found,) = stream.read([slice(0, len(expected))])
        for number, (image, label) in enumerate(expected):
            torch.testing.assert_close(found[0][number], image, rtol=1e-4, atol=1e-5)
            assert int(found[1][number]) == int(stream.labels[number]) == label


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_follow_the_plan_whoever_reads_them(
    workers: int, small: Callable[..., RunSettings]
) -> None:
    train_set, _ = opened(small(), workers)
    batches = run_through(train_set)
    assert [len(labels) for _, labels in batches] == [4] * 6 + [2] + [8] * 3 + [2] + [16, 10]
    order = np.concatenate([permutation(5, epoch, N) for epoch in range(3)])
    labels = torch.cat([labels for _, labels in batches])
    assert labels.tolist() == train_set.labels[torch.from_numpy(order)].tolist()
    again = run_through(opened(small(), 0)[0])
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_large_batches_are_read_in_pieces(
    workers: int, small: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_through(opened(small(), 0)[0]), run_through(opened(small(), 0)[0], Team(2, 3))
    loaders: list[DataLoader[object]] = []

    def counted(*arguments: Any, **more: Any) -> DataLoader[object]:
        loaders.append(DataLoader(*arguments, **more))
        return loaders[-1]

    monkeypatch.setattr(stream_module, "PIECE", 3)
    monkeypatch.setattr(stream_module, "DataLoader", counted)
    for team, expected in zip((SINGLE_PROCESS, Team(2, 3)), whole, strict=True):
        found = run_through(opened(small(), workers)[0], team)
        for batch, other in zip(found, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))
    assert len(loaders) == 2  # one a run, whose workers stay
    assert max(map(len, loaders[0].batch_sampler)) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("piece", [3, 256])
def test_streamed_batches_have_the_order_in_memory_that_is_asked_for(
    piece: int, small: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "PIECE", piece)
    for channels_last in (True, False):
        batches = run_through(opened(small(), 0, channels_last)[0])
        order = torch.channels_last if channels_last else torch.contiguous_format
        assert all(images.is_contiguous(memory_format=order) for images, _ in batches)


def test_an_example_is_augmented_alike_in_any_batch(small: Callable[..., RunSettings]) -> None:
    train_set, _ = opened(small(), 0)
    order = torch.from_numpy(permutation(5, 1, N))
    view = train_set.augmented(seed=5, epoch=1)
    (whole,) = view.read([order])
    parts = list(view.read(torch.split(order, 5)))
    assert torch.equal(whole[0], torch.cat([images for images, _ in parts]))
    second_epoch = torch.cat([images for images, labels in run_through(train_set)[7:11]])
    assert torch.equal(whole[0], second_epoch)
    (other,) = train_set.augmented(seed=5, epoch=2).read([order])
    assert not torch.equal(whole[0], other[0])


def test_a_team_shares_every_batch(small: Callable[..., RunSettings]) -> None:
    alone = run_through(opened(small(), 0)[0])
    shares = [run_through(opened(small(), 0)[0], Team(rank, 3)) for rank in range(3)]
    for number, (images, labels) in enumerate(alone):
        assert torch.equal(images, torch.cat([share[number][0] for share in shares]))
        assert torch.equal(labels, torch.cat([share[number][1] for share in shares]))
    assert [len(share[6][1]) for share in shares] == [1, 1, 0]


def test_a_run_is_resumed_exactly(small: Callable[..., RunSettings], tmp_path: Path) -> None:
    from accelerando.interruption import Interrupted
    from accelerando.training.step import SgdStep

    more = ("hardware.workers=2", "measure.published=true", "optimizer.momentum=0.9")
    whole, broken = small(*more, f"root={tmp_path}/whole"), small(*more)
    train(whole)
    call, count = SgdStep.__call__, iter(range(100))
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Interrupted):

        def stops(self: SgdStep, *arguments: object) -> Tensor:
            if next(count) == 5:
                raise Interrupted(signal.SIGTERM)
            return call(self, *arguments)  # type: ignore[arg-type]

        patched.setattr(SgdStep, "__call__", stops)
        train(broken)
    train(broken)
    folders = [RunFolder(run_folder(config)) for config in (whole, broken)]
    assert same(*folders)
    assert len(lines(folders[0].record)) == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_saves_the_run(
    number: signal.Signals, folder: Path, tmp_path: Path
) -> None:
    process = begin(
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
def test_a_damaged_image_is_named(
    workers: int, content: bytes, small: Callable[..., RunSettings], folder: Path
) -> None:
    damaged = next(iter(sorted((folder / "train").glob("*/*"))))
    damaged.write_bytes(content)
    with pytest.raises(UsageError, match=rf"^{damaged} cannot be read as an image: get it anew$"):
        train(small(f"hardware.workers={workers}"))


def test_what_is_missing_or_different_is_said(
    settings: Settings, small: Callable[..., RunSettings], folder: Path
) -> None:
    with pytest.raises(UsageError, match=r"/nowhere lacks train and val: get ILSVRC 2012 from"):
        validate(settings("dataset=imagenet", "dataset.folder=/nowhere"))
    with pytest.raises(UsageError, match=r"holds 26 training images, .* examples=27"):
        load_data(small("dataset.examples=27"))
    with pytest.raises(UsageError, match=r"holds 2 classes, .* classes=3"):
        load_data(small("dataset.classes=3"))
    (folder / "val" / "n01443537").rename(folder / "val" / "n02")
    with pytest.raises(UsageError, match=r"has n01443537, n02 in only one of train and val"):
        load_data(small())
    (folder / "val" / "n02").rename(folder / "n02")
    (folder / "val" / "n01443537").mkdir()
    with pytest.raises(UsageError, match=r"Found no valid file for the classes n01443537\."):
        load_data(small())
