"""MNIST and Fashion-MNIST: equal to torchvision's reader; corrupt IDX files are reported."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from accelerando.data.fashion_mnist import FashionMnist
from accelerando.data.mnist import Mnist, read_idx
from requirements import missing
from small_data import GREY, read_with_torchvision, write_idx, write_mnist

pytestmark = pytest.mark.usefixtures("data_folder")
DEBIAN_PACKAGE = FashionMnist.INSTALLED


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_equals_torchvision(suffix: str, tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", suffix)
    arrays = Mnist(**GREY, folder=str(tmp_path)).load()
    for path in (tmp_path / "MNIST" / "raw").glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    for split in ("train", "test"):
        images, labels = read_with_torchvision(
            datasets.MNIST(str(tmp_path), train=split == "train")
        )
        assert (getattr(arrays, f"{split}_images") == images).all()
        assert getattr(arrays, f"{split}_labels").tolist() == labels


def test_corrupt_gzip_files_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    zeros = np.zeros((3, 2), np.uint8)
    write_idx(path, zeros)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"a\.gz is corrupt"):
        read_idx(path)
    write_idx(path, zeros)
    content = bytearray(path.read_bytes())
    content[12] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.gz is corrupt"):
        read_idx(path)


def test_corrupt_idx_files_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_idx(path, np.zeros((3, 2), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="has 5 values but its header specifies 6"):
        read_idx(path)
    for content in (b"hello", b"\0\0\x08\x03\0\0"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not an IDX file"):
            read_idx(path)


def test_debian_package_of_fashion_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    if DEBIAN_PACKAGE is None or not DEBIAN_PACKAGE.is_dir():
        missing("fashion_mnist", "needs the Debian package: apt install dataset-fashion-mnist")
    monkeypatch.setattr(FashionMnist, "INSTALLED", DEBIAN_PACKAGE)
    settings: Any = {"examples": 60_000, "shape": (1, 28, 28), "classes": 10}
    arrays = FashionMnist(**settings, mean=[0.2860], std=[0.3530]).load()
    assert np.bincount(arrays.train_labels).tolist() == [6000] * 10
    assert arrays.train_images.mean() == pytest.approx(arrays.mean[0], abs=0.1)
    assert arrays.train_images.std() == pytest.approx(arrays.std[0], abs=0.1)
