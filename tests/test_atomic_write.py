"""Atomic writes: a file has its old content or its new one, never a part."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelerando.atomic_write import open_atomic, write_atomic


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("old")
    return path


@pytest.mark.parametrize("sync", [False, True])
def test_file_is_replaced_when_the_block_ends(file: Path, sync: bool) -> None:
    with open_atomic(file, sync=sync) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


def test_old_file_is_kept_under_another_name(file: Path) -> None:
    kept = file.with_name("kept")
    with open_atomic(file, keep=kept) as stream:
        stream.write(b"new")
    assert (file.read_text(), kept.read_text()) == ("new", "old")


def test_error_while_writing_leaves_the_old_file_and_names_it(file: Path) -> None:
    kept = file.with_name("kept")
    with pytest.raises(OSError, match=f"no room: '{file}'"), open_atomic(file, keep=kept) as stream:
        stream.write(b"half")
        raise OSError(28, "no room")
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


def test_failed_check_leaves_the_old_file(file: Path) -> None:
    def check() -> None:
        raise RuntimeError("taken over")

    kept = file.with_name("kept")
    with (
        pytest.raises(RuntimeError, match="taken over"),
        open_atomic(file, keep=kept, check=check) as stream,
    ):
        stream.write(b"new")
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "missing" / "file", b"new")
