"""Tiny ImageNet: equal to torchvision's reader; corrupt files are reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from accelerando.data.tiny_imagenet import TinyImageNet
from small_data import (
    SETTINGS,
    check_corrupt,
    read_with_torchvision,
    write_tiny_imagenet,
)

pytestmark = pytest.mark.usefixtures("data_folder")


@pytest.mark.parametrize("chunk", [1000, 5])
def test_tiny_imagenet_equals_torchvision(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerando.data.tiny_imagenet.CHUNK", chunk)  # 5: several processes
    write_tiny_imagenet(tmp_path)
    (tmp_path / "train" / "n01" / "images" / ".DS_Store").write_text("")
    arrays = TinyImageNet(**SETTINGS[TinyImageNet], folder=str(tmp_path)).load()
    images, labels = read_with_torchvision(datasets.ImageFolder(str(tmp_path / "train")))
    assert (arrays.train_images == images).all()
    assert arrays.train_labels.tolist() == labels
    assert arrays.test_labels.tolist() == [2, 0, 1]
    image = np.asarray(Image.open(tmp_path / "val" / "images" / "val_1.JPEG"))
    assert (arrays.test_images[1] == image.transpose(2, 0, 1)).all()


def test_corrupt_tiny_imagenet_files_are_reported(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path)
    source = TinyImageNet(**SETTINGS[TinyImageNet], folder=str(tmp_path))
    image = tmp_path / "train" / "n02" / "images" / "n02_2.JPEG"
    check_corrupt(image, image.read_bytes()[:-60], source, "missing or corrupt")
    check_corrupt(image, b"", source, "missing or corrupt")
    Image.new("RGB", (8, 16)).save(tmp_path / "small.JPEG")
    check_corrupt(image, (tmp_path / "small.JPEG").read_bytes(), source, "has the shape")
    annotations = tmp_path / "val" / "val_annotations.txt"
    check_corrupt(annotations, b"val_0.JPEG\tn04\t0", source, "'n04' in line .* not in wnids.txt")
    check_corrupt(annotations, b"val_0.JPEG", source, "'' in line .* not in wnids.txt")
    (tmp_path / "val" / "images" / "val_0.JPEG").unlink()
    with pytest.raises(ValueError, match=r"val_0\.JPEG is missing"):
        source.load()
    (tmp_path / "train" / "n02").rename(tmp_path / "n02")
    with pytest.raises(FileNotFoundError, match="n02/images is missing: unpack"):
        source.load()
