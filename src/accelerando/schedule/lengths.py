"""Lengths in epochs that follow the length of the run, in the paper's proportions."""

from __future__ import annotations


def stage(epochs: int) -> int:
    """Epochs between two changes of a shape: a tenth of the run.

    >>> stage(300), stage(5)
    (30, 1)
    """
    return max(1, epochs // 10)


def warmup(epochs: int) -> int:
    """Epochs of a warm-up: a tenth of the run, and two stairs at least.

    >>> warmup(300), warmup(5)
    (30, 2)
    """
    return max(2, epochs // 10)


def stair(epochs: int) -> int:
    """Epochs between two changes within a warm-up: a hundredth of the run.

    >>> stair(300), stair(5)
    (3, 1)
    """
    return max(1, epochs // 100)
