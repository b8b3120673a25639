"""Which code made a run, by real repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from accelerando import provenance


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the module in a repository with one commit, which does not hold it."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "train.py").write_text("")
    file = tmp_path / ".venv" / "provenance.py"
    file.parent.mkdir()
    file.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(file))
    git(tmp_path, "init")
    git(tmp_path, "add", "train.py")
    git(tmp_path, "commit", "-m", "a project")
    return file


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.usefixtures("package")
def test_a_package_in_another_projects_repository_has_no_commit() -> None:
    assert provenance.git_commit() is None


def test_code_in_its_own_repository_has_its_commit(package: Path) -> None:
    git(package.parent, "add", package.name)
    git(package.parent, "commit", "-m", "the code")
    head = git(package.parent, "rev-parse", "--short=12", "HEAD")
    assert provenance.git_commit() == head
    package.write_text("changed")
    assert provenance.git_commit() == f"{head}-dirty"


def test_outside_of_a_repository_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_commit() is None
