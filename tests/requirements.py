"""What tests need beyond Python: a SLURM installation, Chromium, root, a system package."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRE = "ACCELERANDO_REQUIRE"
"""Comma-separated parts that must be present; ``.ci/run`` lists them all."""

PARTS = ("slurm", "chromium", "root", "fashion_mnist", "wandb_sweeps")


def missing(part: str, reason: str) -> NoReturn:
    """Skip the test because ``part`` is missing, or fail it if the environment requires the part.

    Args:
        part: one of ``PARTS``.
        reason: what is missing and how to install it.
    """
    assert part in PARTS
    if part in os.environ.get(REQUIRE, "").split(","):
        pytest.fail(f"{reason} ({REQUIRE} lists {part})")
    pytest.skip(reason)
