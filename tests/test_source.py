"""Sources: arrays are checked against the settings; digits, synthetic data and the YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sklearn.datasets import load_digits

from accelerando.data.digits import Digits
from accelerando.data.in_memory import in_memory_datasets
from accelerando.data.mnist import Mnist
from accelerando.data.source import Arrays
from accelerando.data.synthetic import Synthetic
from small_data import GREY, write_idx, write_mnist

CONF = Path(__file__).parents[1] / "conf" / "dataset"


def digits(examples: int = 1437) -> Arrays:
    return Digits(examples=examples, shape=(1, 8, 8), classes=10).load()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"examples": 7}, "has 6 training images"),
        ({"classes": 2}, "has the label"),
        (
            {"shape": (1, 14, 14)},
            r"shape \[1, 28, 28\] but the settings specify shape=\[1, 14, 14\]",
        ),
        ({"mean": [1, 2, 3]}, "mean has 3 values but the images have 1 channels"),
        ({"std": [0]}, "std must be above 0"),
    ],
)
def test_data_that_contradict_the_settings_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_mnist(tmp_path)
    with pytest.raises(ValueError, match=message):
        Mnist(**{**GREY, **settings}, folder=str(tmp_path)).load()


def test_different_numbers_of_images_and_labels_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / Mnist.FILES[3], np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="3 test images but 2 labels"):
        Mnist(**GREY, folder=str(tmp_path)).load()


def test_digits_are_complete_with_a_stratified_test_set() -> None:
    arrays = digits()
    images = np.concatenate([arrays.train_images, arrays.test_images]).reshape(1797, 64)
    pixels, labels = load_digits(return_X_y=True)
    assert sorted(map(tuple, images)) == sorted(map(tuple, pixels.astype(np.uint8)))
    fraction = np.bincount(arrays.test_labels) / np.bincount(labels)
    assert (abs(fraction - 0.2) < 0.01).all()
    assert (arrays.train_labels == digits().train_labels).all()


def test_subset_is_stratified_and_always_the_same() -> None:
    complete, subset, again = digits(), digits(300), digits(300)
    assert (subset.train_images == again.train_images).all()
    fractions = [
        np.bincount(data.train_labels) / len(data.train_labels) for data in (subset, complete)
    ]
    assert np.abs(fractions[0] - fractions[1]).max() < 1 / 300
    label_of = {
        image.tobytes(): label
        for image, label in zip(complete.train_images, complete.train_labels, strict=True)
    }
    assert len(label_of) > 1400
    assert all(
        label_of[image.tobytes()] == label
        for image, label in zip(subset.train_images, subset.train_labels, strict=True)
    )
    assert len({image.tobytes() for image in subset.train_images}) > 290
    assert (subset.test_images == complete.test_images).all()
    assert subset.mean == complete.mean


def test_images_are_normalised() -> None:
    train, test = in_memory_datasets(digits(), torch.device("cpu"))
    ((images, labels),) = train.read([slice(None)])
    assert images.dtype == torch.float32
    assert abs(float(images.mean())) < 1e-4
    assert float(images.std()) == pytest.approx(1, abs=1e-3)
    assert (len(test), labels.dtype) == (360, torch.int64)
    assert train.images.dtype == torch.uint8


def test_synthetic_data_have_any_size_and_can_be_learned() -> None:
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
def test_yaml_file_describes_the_source(path: Path) -> None:
    settings = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(settings, dict)
    assert settings.pop("name") == path.stem
    assert settings.pop("epochs") >= 1
    settings.pop("augmentation")
    source = instantiate(settings, _convert_="all")
    for name in ("mean", "std"):
        values = getattr(source, name, None)
        assert values is None or len(values) == source.shape[0]
