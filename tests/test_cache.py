"""The cache of decoded data: whole, checked, and mended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from accelerando.data import cache
from accelerando.data.cache import cached
from accelerando.data.digits import Digits
from accelerando.data.source import Decoded

DIGITS = {"examples": 1437, "shape": (1, 8, 8), "classes": 10}


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCELERANDO_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def small(seed: int = 0) -> Decoded:
    random = np.random.default_rng(seed)
    return Decoded(
        train_images=random.integers(0, 256, (500, 3, 4, 4), np.uint8),
        train_labels=random.integers(0, 10, 500),
        test_images=random.integers(0, 256, (20, 3, 4, 4), np.uint8),
        test_labels=random.integers(0, 10, 20),
    )


def same(left: Decoded, right: Decoded) -> bool:
    return all(
        getattr(left, field.name).dtype == getattr(right, field.name).dtype
        and np.array_equal(getattr(left, field.name), getattr(right, field.name))
        for field in fields(Decoded)
    )


def forbidden() -> Decoded:
    raise AssertionError("decoded again")


def kept(folder: Path) -> list[Path]:
    """Copies that processes would use."""
    return sorted(path for path in (folder / "decoded").glob("[!.]*"))


def temporary(folder: Path) -> list[Path]:
    return list((folder / "decoded").glob(".accelerando-*"))


def test_what_was_decoded_once_is_mapped(
    data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert same(cached("x", ["1"], small), small())
    again = cached("x", ["1"], forbidden)
    assert same(again, small())
    for field in fields(Decoded):
        array = getattr(again, field.name)
        assert type(array) is np.ndarray
        assert isinstance(array.base, np.memmap)
        torch.from_numpy(array)  # warns, and so fails, where memory is read-only
    assert len(kept(data_folder)) == 1
    assert temporary(data_folder) == []
    assert capsys.readouterr().err == ""


def test_another_key_or_name_is_another_copy(data_folder: Path) -> None:
    cached("x", ["1"], small)
    assert same(cached("x", ["2"], lambda: small(2)), small(2))
    assert same(cached("y", ["1"], lambda: small(3)), small(3))
    assert same(cached("x", ["1"], forbidden), small())
    assert len(kept(data_folder)) == 3


def test_a_process_that_writes_changes_its_own_copy_alone() -> None:
    cached("x", ["1"], small).train_images[:] = 0
    assert same(cached("x", ["1"], forbidden), small())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


FILES = [f"{field.name}.npy" for field in fields(Decoded)]


@pytest.mark.parametrize("name", [*FILES, "checksums.json"])
@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
def test_a_damaged_copy_is_told_and_mended(
    name: str,
    damage: Callable[[Path], None],
    data_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cached("x", ["1"], small)
    (copy,) = kept(data_folder)
    damage(copy / name)
    calls = []
    assert same(cached("x", ["1"], lambda: calls.append(1) or small()), small())  # type: ignore[func-returns-value]
    assert calls == [1]
    error = capsys.readouterr().err
    assert f"{copy} is damaged" in error
    assert error.count("\n") == 1
    assert same(cached("x", ["1"], forbidden), small())
    assert kept(data_folder) == [copy]


def test_what_another_process_has_mended_is_left_alone(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cached("x", ["1"], small)
    (copy,) = kept(data_folder)

    def late(_: Path) -> dict[str, int]:
        monkeypatch.setattr(cache, "_checksums", checksums)
        copy.rename(copy.with_name(".damaged"))
        cache._write(small(), copy)
        raise ValueError("found damaged, and mended since")

    checksums = cache._checksums
    monkeypatch.setattr(cache, "_checksums", late)
    assert cache._opened(copy) is None
    assert same(cache._opened(copy) or forbidden(), small())
    assert capsys.readouterr().err == ""


def test_data_in_use_stay_whole_while_another_process_mends_them(data_folder: Path) -> None:
    mine = cached("x", ["1"], small)
    empty(kept(data_folder)[0] / "test_labels.npy")
    cached("x", ["1"], small)
    assert (mine.train_images == small().train_images).all()


def test_without_a_folder_to_write_in_the_data_are_used_from_memory(
    data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_folder.write_text("a file")
    decoded = cached("x", ["1"], small)
    assert same(decoded, small())
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "ACCELERANDO_DATA=DIR" in error
    torch.from_numpy(decoded.train_images)


def test_an_error_of_the_decoding_is_passed_on(
    data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> Decoded:
        raise FileNotFoundError("no such image")

    with pytest.raises(FileNotFoundError, match="no such image"):
        cached("x", ["1"], missing)
    assert kept(data_folder) == []
    assert capsys.readouterr().err == ""


def test_digits_from_the_cache_are_the_same_and_need_no_heavy_library() -> None:
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


def test_another_scikit_learn_decodes_anew(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Digits(**DIGITS).load()
    monkeypatch.setattr("accelerando.data.digits.version", lambda _: "99")
    Digits(**DIGITS).load()
    assert len(kept(data_folder)) == 2


def test_another_format_decodes_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    cached("x", ["1"], small)
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert same(cached("x", ["1"], lambda: small(2)), small(2))
