"""Data sets in their real formats, small and whole, against other readers of the same files."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from accelerando.data.cifar import Cifar10, Cifar100
from accelerando.data.digits import Digits
from accelerando.data.fashion_mnist import FashionMnist
from accelerando.data.files import FileSource
from accelerando.data.idx import read_idx
from accelerando.data.images import on_device
from accelerando.data.mnist import STEMS, Mnist
from accelerando.data.synthetic import Synthetic
from accelerando.data.tiny_imagenet import TinyImageNet
from requirements import missing
from small_data import (
    GREY,
    SMALL,
    WRITE,
    damaged,
    pickled,
    write_cifar10,
    write_cifar100,
    write_idx,
    write_mnist,
    write_tiny,
)

CONF = Path(__file__).parents[1] / "conf" / "dataset"
DEBIAN = FashionMnist.INSTALLED
every_source = pytest.mark.parametrize("kind", WRITE, ids=lambda kind: kind.__name__)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCELERANDO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(FashionMnist, "INSTALLED", None)
    return tmp_path / "data"


@every_source
def test_files_are_found_and_normalised_as_the_settings_say(
    kind: type[FileSource], tmp_path: Path, data_folder: Path
) -> None:
    root = tmp_path / "root"
    WRITE[kind](root / kind.HOME)
    arrays = kind(**SMALL[kind], folder=str(root / kind.HOME)).load()
    settings = SMALL[kind]
    assert arrays.mean == tuple(255 * value for value in settings["mean"])
    assert arrays.std == tuple(255 * value for value in settings["std"])
    again = kind(**{**settings, "std": [1] * len(arrays.std)}, folder=str(root)).load()
    assert (again.train_images == arrays.train_images).all()
    assert again.std == (255,) * len(arrays.std)
    data_folder.mkdir(exist_ok=True)
    (root / kind.HOME.split("/")[0]).rename(data_folder / kind.HOME.split("/")[0])
    found = kind(**settings).load()
    assert (found.test_images == arrays.test_images).all()


@every_source
def test_changed_files_are_decoded_anew(kind: type[FileSource], tmp_path: Path) -> None:
    WRITE[kind](tmp_path / "a")
    WRITE[kind](tmp_path / "b")
    source = kind(**SMALL[kind], folder=str(tmp_path / "a"))
    before = source.load()
    for path in (tmp_path / "b").rglob("*"):
        if path.is_file():
            path.replace(tmp_path / "a" / path.relative_to(tmp_path / "b"))
    after = source.load()
    assert (before.train_images != after.train_images).any()


def torchvision_says(dataset: Any) -> tuple[npt.NDArray[np.uint8], list[int]]:
    pairs = [(np.asarray(image), label) for image, label in dataset]
    images = np.stack([image for image, _ in pairs])
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return images, [label for _, label in pairs]


@pytest.mark.parametrize("python", [2, 3])
@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_cifar_is_what_torchvision_reads(
    name: str, python: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, write = (Cifar10, write_cifar10) if name == "CIFAR10" else (Cifar100, write_cifar100)
    write(tmp_path / kind.HOME, python)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    arrays = kind(**SMALL[kind], folder=str(tmp_path)).load()
    for path in (tmp_path / kind.HOME).iterdir():  # torchvision reads Python 2's alone
        path.write_bytes(pickled(pickle.loads(path.read_bytes(), encoding="bytes")))
    for train in (True, False):
        images, labels = torchvision_says(getattr(datasets, name)(str(tmp_path), train=train))
        part = "train" if train else "test"
        assert (getattr(arrays, f"{part}_images") == images).all()
        assert getattr(arrays, f"{part}_labels").tolist() == labels


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_is_what_torchvision_reads(suffix: str, tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", suffix)
    arrays = Mnist(**GREY, folder=str(tmp_path)).load()
    for path in (tmp_path / "MNIST" / "raw").glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    for train in (True, False):
        images, labels = torchvision_says(datasets.MNIST(str(tmp_path), train=train))
        part = "train" if train else "test"
        assert (getattr(arrays, f"{part}_images") == images).all()
        assert getattr(arrays, f"{part}_labels").tolist() == labels


@pytest.mark.parametrize("chunk", [1000, 5])
def test_tiny_imagenet_is_what_torchvision_reads(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerando.data.tiny_imagenet.CHUNK", chunk)  # 5: several processes
    write_tiny(tmp_path)
    (tmp_path / "train" / "n01" / "images" / ".DS_Store").write_text("")
    arrays = TinyImageNet(**SMALL[TinyImageNet], folder=str(tmp_path)).load()
    images, labels = torchvision_says(datasets.ImageFolder(str(tmp_path / "train")))
    assert (arrays.train_images == images).all()
    assert arrays.train_labels.tolist() == labels
    assert arrays.test_labels.tolist() == [2, 0, 1]
    image = np.asarray(Image.open(tmp_path / "val" / "images" / "val_1.JPEG"))
    assert (arrays.test_images[1] == image.transpose(2, 0, 1)).all()


def test_damaged_tiny_imagenet_files_are_named(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    source = TinyImageNet(**SMALL[TinyImageNet], folder=str(tmp_path))
    image = tmp_path / "train" / "n02" / "images" / "n02_2.JPEG"
    damaged(image, image.read_bytes()[:-60], source, "missing or damaged")
    damaged(image, b"", source, "missing or damaged")
    Image.new("RGB", (8, 16)).save(tmp_path / "small.JPEG")
    damaged(image, (tmp_path / "small.JPEG").read_bytes(), source, "has the shape")
    annotations = tmp_path / "val" / "val_annotations.txt"
    damaged(annotations, b"val_0.JPEG\tn04\t0", source, "wnids.txt no 'n04'")
    damaged(annotations, b"val_0.JPEG", source, "wnids.txt no ''")
    (tmp_path / "val" / "images" / "val_0.JPEG").unlink()
    with pytest.raises(ValueError, match=r"val_0\.JPEG is missing"):
        source.load()
    (tmp_path / "train" / "n02").rename(tmp_path / "n02")
    with pytest.raises(FileNotFoundError, match="n02/images is missing: unpack"):
        source.load()


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    zeros = np.zeros((3, 2), np.uint8)
    write_idx(path, zeros)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"a\.gz is damaged"):
        read_idx(path)
    write_idx(path, zeros)
    content = bytearray(path.read_bytes())
    content[12] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.gz is damaged"):
        read_idx(path)
    path = tmp_path / "a"
    write_idx(path, zeros)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="holds 5 values, its header says 6"):
        read_idx(path)
    for content in (b"hello", b"\0\0\x08\x03\0\0"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not an IDX file"):
            read_idx(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"examples": 7}, "hold 6 training images"),
        ({"classes": 2}, "hold the label"),
        ({"mean": [1, 2, 3]}, "mean has 3 values, the images 1 channels"),
        ({"std": [0]}, "std must be above 0"),
    ],
)
def test_data_that_are_not_as_described_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_mnist(tmp_path)
    with pytest.raises(ValueError, match=message):
        Mnist(**{**GREY, **settings}, folder=str(tmp_path)).load()


def test_images_and_labels_that_do_not_match_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / STEMS[3], np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="3 test images, 2 labels"):
        Mnist(**GREY, folder=str(tmp_path)).load()


def test_digits_are_all_there_and_split_by_class() -> None:
    arrays = Digits(examples=1437, shape=(1, 8, 8), classes=10).load()
    images = np.concatenate([arrays.train_images, arrays.test_images]).reshape(1797, 64)
    pixels, labels = load_digits(return_X_y=True)
    assert sorted(map(tuple, images)) == sorted(map(tuple, pixels.astype(np.uint8)))
    share = np.bincount(arrays.test_labels) / np.bincount(labels)
    assert (abs(share - 0.2) < 0.01).all()
    again = Digits(examples=1437, shape=(1, 8, 8), classes=10).load()
    assert (arrays.train_labels == again.train_labels).all()


def test_a_part_of_the_data_is_the_same_for_everyone_and_has_every_class() -> None:
    whole = Digits(examples=1437, shape=(1, 8, 8), classes=10).load()
    part, again = (Digits(examples=300, shape=(1, 8, 8), classes=10).load() for _ in range(2))
    assert (part.train_images == again.train_images).all()
    shares = [np.bincount(data.train_labels) / len(data.train_labels) for data in (part, whole)]
    assert np.abs(shares[0] - shares[1]).max() < 1 / 300
    images = {
        image.tobytes(): label
        for image, label in zip(whole.train_images, whole.train_labels, strict=True)
    }
    assert len(images) > 1400
    assert all(
        images[i.tobytes()] == label
        for i, label in zip(part.train_images, part.train_labels, strict=True)
    )
    assert len({image.tobytes() for image in part.train_images}) > 290
    assert (part.test_images == whole.test_images).all()
    assert part.mean == whole.mean


def test_images_are_normalised() -> None:
    train, test = on_device(
        Digits(examples=1437, shape=(1, 8, 8), classes=10).load(), torch.device("cpu")
    )
    ((images, labels),) = train.read([slice(None)])
    assert images.dtype == torch.float32
    assert abs(float(images.mean())) < 1e-4
    assert float(images.std()) == pytest.approx(1, abs=1e-3)
    assert (len(test), labels.dtype) == (360, torch.int64)
    assert train.images.dtype == torch.uint8


def test_synthetic_data_are_of_any_size_and_can_be_learned() -> None:
    settings: Any = {"examples": 500, "shape": (3, 9, 5), "classes": 7, "test_examples": 200}
    arrays = Synthetic(**settings, seed=0).load()
    assert arrays.test_images.shape == (200, 3, 9, 5)
    centres = [arrays.train_images[arrays.train_labels == k].mean(axis=0) for k in range(7)]
    distances = [((arrays.test_images - centre) ** 2).sum(axis=(1, 2, 3)) for centre in centres]
    accuracy = (np.argmin(distances, axis=0) == arrays.test_labels).mean()
    assert accuracy > 0.5
    assert arrays.train_images.mean(axis=(0, 2, 3)) == pytest.approx(arrays.mean)
    again, other = (Synthetic(**settings, seed=seed).load() for seed in (0, 1))
    assert (arrays.test_images == again.test_images).all()
    assert (arrays.test_images != other.test_images).any()
    with pytest.raises(ValueError, match="test_examples must be at least 1, got 0"):
        Synthetic(**{**settings, "test_examples": 0}, seed=0)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_settings_describe_the_source(path: Path) -> None:
    settings = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(settings, dict)
    assert settings.pop("name") == path.stem
    assert settings.pop("epochs") >= 1
    settings.pop("augmentation")
    source = instantiate(settings, _convert_="all")
    for name in ("mean", "std"):
        values = getattr(source, name, None)
        assert values is None or len(values) == source.shape[0]


def test_the_real_fashion_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    if DEBIAN is None or not DEBIAN.is_dir():
        missing("fashion_mnist", "needs the Debian package: apt install dataset-fashion-mnist")
    monkeypatch.setattr(FashionMnist, "INSTALLED", DEBIAN)
    settings: Any = {"examples": 60_000, "shape": (1, 28, 28), "classes": 10}
    arrays = FashionMnist(**settings, mean=[0.2860], std=[0.3530]).load()
    assert np.bincount(arrays.train_labels).tolist() == [6000] * 10
    assert arrays.train_images.mean() == pytest.approx(arrays.mean[0], abs=0.1)
    assert arrays.train_images.std() == pytest.approx(arrays.std[0], abs=0.1)
