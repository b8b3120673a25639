"""The commit of the code, in real Git repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from accelerando import provenance


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module installed into an ignored folder of a project's repository."""
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


def git(folder: Path, *arguments: str) -> str:
    options = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    result = subprocess.run(
        ["git", *options, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


@pytest.mark.usefixtures("module")
def test_package_installed_in_the_repository_of_a_project_has_no_commit() -> None:
    assert provenance.git_commit() is None


def test_commit_of_code_in_its_own_repository(module: Path) -> None:
    git(module.parent, "add", module.name)
    git(module.parent, "commit", "-m", "the code")
    head = git(module.parent, "rev-parse", "--short=12", "HEAD")
    assert provenance.git_commit() == head
    module.write_text("changed")
    assert provenance.git_commit() == f"{head}-dirty"


def test_no_commit_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_commit() is None
