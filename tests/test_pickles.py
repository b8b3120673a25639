"""CIFAR's pickles are read without running them: what is damaged or malicious is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelerando.data.cifar import Cifar10
from small_data import SMALL, damaged, pickled, write_cifar10


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERANDO_DATA", str(tmp_path / "data"))


class Malice:
    """Pickled, it asks for a call."""

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
def test_a_pickle_that_wants_more_is_refused(
    call: tuple[Any, ...], protocol: int, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    call = (*call, str(made)) if call == (os.mkdir,) else call
    write_cifar10(tmp_path)
    content = {b"labels": [0], b"data": Malice(*call)}
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(ValueError, match=r"data_batch_3 (is not the pickled|holds data of shape)"):
        Cifar10(**SMALL[Cifar10], folder=str(tmp_path)).load()
    assert not made.exists()


def test_damaged_cifar_files_are_named(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    source = Cifar10(**SMALL[Cifar10], folder=str(tmp_path))
    path = tmp_path / "data_batch_2"
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[:200], b"hello", pickled([1]), b"\x80\x02]." * 9):
        damaged(path, content, source, "is not the pickled images it should be")
    rows = np.zeros((1, 3072), np.uint8)
    damaged(path, pickled({b"data": rows, b"fine_labels": [1]}), source, "lacks data or labels")
    damaged(path, pickled({b"data": rows, b"labels": [1, 2]}), source, "and 2 labels")
    damaged(path, pickled({b"data": rows[:, :-1], b"labels": [1]}), source, "3072 bytes for each")
    damaged(path, pickled({b"data": rows, b"labels": ["1"]}), source, "not numbers")
    floats = pickled({b"data": rows.astype(np.float32), b"labels": [1]})
    damaged(path, floats, source, "it holds an array of 'f4'|it holds an array of b'f4'")
    assert len(source.load().train_images) == 15
