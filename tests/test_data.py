"""Data sets in their real formats: digits, and IDX files small and whole."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from accelerando.data import fashion_mnist
from accelerando.data.digits import Digits
from accelerando.data.fashion_mnist import STEMS, FashionMnist
from accelerando.data.idx import read_idx
from accelerando.data.images import on_device

SMALL = {"examples": 6, "shape": (1, 28, 28), "classes": 10}
WHOLE = {"examples": 60_000, "shape": (1, 28, 28), "classes": 10}


def write_idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_fashion(folder: Path, suffix: str) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    arrays = {}
    for stem in STEMS:
        n = 6 if stem.startswith("train") else 3
        shape = (n, 28, 28) if "images" in stem else (n,)
        arrays[stem] = random.integers(0, 256 if "images" in stem else 10, shape)
        write_idx(folder / f"{stem}{suffix}", arrays[stem])
    return arrays


def test_digits_are_all_there_and_split_by_class() -> None:
    arrays = Digits(examples=1437, shape=(1, 8, 8), classes=10).load()
    images = np.concatenate([arrays.train_images, arrays.test_images]).reshape(1797, 64)
    pixels, labels = load_digits(return_X_y=True)
    assert sorted(map(tuple, images)) == sorted(map(tuple, pixels.astype(np.uint8)))
    share = np.bincount(arrays.test_labels) / np.bincount(labels)
    assert (abs(share - 0.2) < 0.01).all()
    again = Digits(examples=1437, shape=(1, 8, 8), classes=10).load()
    assert (arrays.train_labels == again.train_labels).all()


def test_images_are_normalised() -> None:
    train, test = on_device(
        Digits(examples=1437, shape=(1, 8, 8), classes=10).load(), torch.device("cpu")
    )
    images, labels = train.take(torch.arange(len(train)))
    assert images.dtype == torch.float32
    assert abs(float(images.mean())) < 1e-4
    assert float(images.std()) == pytest.approx(1, abs=1e-3)
    assert (len(test), labels.dtype) == (360, torch.int64)
    assert train.images.dtype == torch.uint8


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_from_a_folder(tmp_path: Path, suffix: str) -> None:
    written = write_fashion(tmp_path, suffix)
    arrays = FashionMnist(**SMALL, folder=str(tmp_path)).load()
    assert (arrays.train_images[:, 0] == written[STEMS[0]]).all()
    assert (arrays.train_labels == written[STEMS[1]]).all()
    assert (arrays.test_images[:, 0] == written[STEMS[2]]).all()
    assert (arrays.test_labels == written[STEMS[3]]).all()


def test_data_that_are_not_as_described_are_refused(tmp_path: Path) -> None:
    write_fashion(tmp_path, "")
    with pytest.raises(ValueError, match="hold 6 training images"):
        FashionMnist(**{**SMALL, "examples": 7}, folder=str(tmp_path)).load()
    with pytest.raises(ValueError, match="hold the label"):
        FashionMnist(**{**SMALL, "classes": 2}, folder=str(tmp_path)).load()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    write_idx(path, np.zeros((3, 2)))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"a\.gz is damaged"):
        read_idx(path)
    path = tmp_path / "a"
    write_idx(path, np.zeros((3, 2)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="holds 5 values, its header says 6"):
        read_idx(path)
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match="not an IDX file"):
        read_idx(path)


def test_without_files_and_network_all_three_ways_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "none")
    monkeypatch.setenv("ACCELERANDO_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr("torchvision.datasets.FashionMNIST.mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(FileNotFoundError) as caught:
        FashionMnist(**SMALL).prepare()
    for way in ("dataset.folder=DIR", "apt install dataset-fashion-mnist", "torchvision"):
        assert way in str(caught.value)


def test_the_real_fashion_mnist() -> None:
    if not fashion_mnist.DEBIAN.is_dir():
        message = "needs the Debian package dataset-fashion-mnist"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    arrays = FashionMnist(**WHOLE).load()
    assert np.bincount(arrays.train_labels).tolist() == [6000] * 10
    assert arrays.train_images.mean() == pytest.approx(arrays.mean[0], abs=0.1)
    assert arrays.train_images.std() == pytest.approx(arrays.std[0], abs=0.1)
