"""Which code made a run."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str | None:
    """Git commit of this code, with -dirty where files were changed; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
