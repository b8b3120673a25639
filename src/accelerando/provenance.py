"""Version of the code that trains a run."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git_commit() -> str | None:
    """Return the Git commit of this code, None if it is not in a repository of its own.

    The suffix ``-dirty`` marks uncommitted changes.
    """
    # an installed package may lie in the repository of a project that uses it
    if not _git("ls-files", Path(__file__).name):
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*") or None


def _git(*arguments: str) -> str:
    """Return the output of a Git command in this folder; empty if it fails."""
    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip()
