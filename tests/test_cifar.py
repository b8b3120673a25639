"""CIFAR: equal to torchvision's reader; corrupt and malicious pickles are refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from accelerando.data.cifar import Cifar10, Cifar100
from small_data import (
    SETTINGS,
    check_corrupt,
    pickle_bytes,
    read_with_torchvision,
    write_cifar10,
    write_cifar100,
)

pytestmark = pytest.mark.usefixtures("data_folder")


@pytest.mark.parametrize("python", [2, 3])
@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_cifar_equals_torchvision(
    name: str, python: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, write = (Cifar10, write_cifar10) if name == "CIFAR10" else (Cifar100, write_cifar100)
    write(tmp_path / source.HOME, python)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    arrays = source(**SETTINGS[source], folder=str(tmp_path)).load()
    for path in (tmp_path / source.HOME).iterdir():  # torchvision only reads Python 2's pickles
        path.write_bytes(pickle_bytes(pickle.loads(path.read_bytes(), encoding="bytes")))
    for split in ("train", "test"):
        dataset = getattr(datasets, name)(str(tmp_path), train=split == "train")
        images, labels = read_with_torchvision(dataset)
        assert (getattr(arrays, f"{split}_images") == images).all()
        assert getattr(arrays, f"{split}_labels").tolist() == labels


class CallOnUnpickling:
    """Pickles as the request for a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "call",
    [(os.mkdir,), (eval, "1"), (getattr, [], "append"), (np.ndarray, (1,), "O", b"\0" * 8)],
    ids=["os", "eval", "getattr", "forged pointer"],
)
def test_malicious_pickle_is_refused(call: tuple[Any, ...], protocol: int, tmp_path: Path) -> None:
    target = tmp_path / "created"
    call = (*call, str(target)) if call == (os.mkdir,) else call
    write_cifar10(tmp_path)
    content = {b"labels": [0], b"data": CallOnUnpickling(*call)}
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(ValueError, match=r"data_batch_3 (is not a pickle of|has data of shape)"):
        Cifar10(**SETTINGS[Cifar10], folder=str(tmp_path)).load()
    assert not target.exists()


def test_corrupt_cifar_files_are_reported(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    source = Cifar10(**SETTINGS[Cifar10], folder=str(tmp_path))
    path = tmp_path / "data_batch_2"
    intact = path.read_bytes()
    for content in (
        b"",
        intact[:-1],
        intact[:200],
        b"hello",
        pickle_bytes([1]),
        b"\x80\x02]." * 9,
    ):
        check_corrupt(path, content, source, "is not a pickle of labelled images")

    def check(content: dict[bytes, Any], message: str) -> None:
        check_corrupt(path, pickle_bytes(content), source, message)

    rows = np.zeros((1, 3072), np.uint8)
    check({b"data": rows, b"fine_labels": [1]}, "lacks data or labels")
    check({b"data": rows, b"labels": [1, 2]}, "and 2 labels")
    check({b"data": rows[:, :-1], b"labels": [1]}, "3072 bytes per label")
    check({b"data": rows, b"labels": ["1"]}, "not numbers")
    check({b"data": rows.astype(np.float32), b"labels": [1]}, "array of type b?'f4'")
    assert len(source.load().train_images) == 15
