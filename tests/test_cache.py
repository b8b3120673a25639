"""The cache of decoded data: hits, misses, corruption and fallbacks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from accelerando.data import cache
from accelerando.data.cache import load_cached
from accelerando.data.digits import Digits
from accelerando.data.source import LabelledImages
from small_data import (
    cache_entries,
    equal,
    flip_bit,
    must_not_decode,
    random_images,
    temporary_folders,
)

pytestmark = pytest.mark.usefixtures("data_folder")
DIGITS: Any = {"examples": 1437, "shape": (1, 8, 8), "classes": 10}


def test_decoded_data_are_memory_mapped(
    data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert equal(load_cached("x", ["1"], random_images), random_images())
    again = load_cached("x", ["1"], must_not_decode)
    assert equal(again, random_images())
    for field in fields(LabelledImages):
        array = getattr(again, field.name)
        assert type(array) is np.ndarray
        assert isinstance(array.base, np.memmap)
        torch.from_numpy(array)  # would warn about read-only memory
    assert len(cache_entries(data_folder)) == 1
    assert temporary_folders(data_folder) == []
    assert capsys.readouterr().err == ""


def test_each_key_and_name_has_its_own_entry(data_folder: Path) -> None:
    load_cached("x", ["1"], random_images)
    assert equal(load_cached("x", ["2"], lambda: random_images(2)), random_images(2))
    assert equal(load_cached("y", ["1"], lambda: random_images(3)), random_images(3))
    assert equal(load_cached("x", ["1"], must_not_decode), random_images())
    assert len(cache_entries(data_folder)) == 3


def test_writes_do_not_reach_the_cache() -> None:
    load_cached("x", ["1"], random_images).train_images[:] = 0
    assert equal(load_cached("x", ["1"], must_not_decode), random_images())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


FILES = [f"{field.name}.npy" for field in fields(LabelledImages)]


@pytest.mark.parametrize("name", [*FILES, "checksums.json"])
@pytest.mark.parametrize("damage", [flip_bit, cut, empty, Path.unlink])
def test_corrupt_entry_is_reported_and_replaced(
    name: str,
    damage: Callable[[Path], None],
    data_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load_cached("x", ["1"], random_images)
    (entry,) = cache_entries(data_folder)
    damage(entry / name)
    calls = []

    def decode() -> LabelledImages:
        calls.append(1)
        return random_images()

    assert equal(load_cached("x", ["1"], decode), random_images())
    assert calls == [1]
    error = capsys.readouterr().err
    assert f"{entry} is corrupt" in error
    assert error.count("\n") == 1
    assert equal(load_cached("x", ["1"], must_not_decode), random_images())
    assert cache_entries(data_folder) == [entry]


def test_entry_replaced_by_another_process_is_kept(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load_cached("x", ["1"], random_images)
    (entry,) = cache_entries(data_folder)

    def replaced_meanwhile(_: Path) -> dict[str, int]:
        monkeypatch.setattr(cache, "_checksums", checksums)
        entry.rename(entry.with_name(".corrupt"))
        cache._store(random_images(), entry)
        raise ValueError("the entry was corrupt and has been replaced")

    checksums = cache._checksums
    monkeypatch.setattr(cache, "_checksums", replaced_meanwhile)
    assert cache._load(entry) is None
    assert equal(cache._load(entry) or must_not_decode(), random_images())
    assert capsys.readouterr().err == ""


def test_mapped_data_survive_the_replacement_of_their_entry(data_folder: Path) -> None:
    mapped = load_cached("x", ["1"], random_images)
    (entry,) = cache_entries(data_folder)
    empty(entry / "test_labels.npy")
    os.utime(entry, (0, 0))
    load_cached("x", ["1"], random_images)
    load_cached("x", ["1"], must_not_decode)
    assert len(temporary_folders(data_folder)) == 1  # in quarantine for a day, however old
    assert (mapped.train_images == random_images().train_images).all()


def test_without_a_writable_folder_data_are_decoded_into_memory(
    data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_folder.write_text("a file")
    images = load_cached("x", ["1"], random_images)
    assert equal(images, random_images())
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "ACCELERANDO_DATA=DIR" in error
    torch.from_numpy(images.train_images)


def test_decoding_errors_propagate(data_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> LabelledImages:
        raise FileNotFoundError("no such image")

    with pytest.raises(FileNotFoundError, match="no such image"):
        load_cached("x", ["1"], fail)
    assert cache_entries(data_folder) == []
    assert capsys.readouterr().err == ""


def test_cached_digits_are_equal_and_load_without_heavy_imports() -> None:
    first = Digits(**DIGITS).load()
    code = (
        "import sys; from accelerando.data.digits import Digits\n"
        "data = Digits(examples=1437, shape=(1, 8, 8), classes=10).load()\n"
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'joblib') if m in sys.modules])\n"
        "print(data.mean, data.std, data.train_images.sum())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    total = first.train_images.sum()
    assert result.stdout == f"[]\n{first.mean} {first.std} {total}\n", result.stderr


def test_new_scikit_learn_version_decodes_again(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Digits(**DIGITS).load()
    monkeypatch.setattr("accelerando.data.digits.version", lambda _: "99")
    Digits(**DIGITS).load()
    assert len(cache_entries(data_folder)) == 2


def test_new_format_decodes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    load_cached("x", ["1"], random_images)
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert equal(load_cached("x", ["1"], lambda: random_images(2)), random_images(2))
