"""Which code made a run."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str | None:
    """Git commit of this code, with -dirty where files were changed; None outside a checkout."""
    # an installed package may lie in a repository too, that of the project which uses it
    if not _git("ls-files", Path(__file__).name):
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*") or None


def _git(*words: str) -> str:
    """What git says beside this file; empty where it fails, or is not there."""
    try:
        result = subprocess.run(
            ["git", *words],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip()
