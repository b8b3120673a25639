"""A shape given as a plain list of (epoch, value) pairs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from accelerando.checks import number, whole


class Table:
    """Values that each hold from their epoch on.

    Raises:
        ValueError: the list is empty, does not start at epoch 0, or its epochs do not increase.
    """

    def __init__(self, pairs: Sequence[Any]) -> None:
        if not pairs:
            raise ValueError("values must hold at least one (epoch, value) pair, got none")
        for pair in pairs:
            if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
                raise ValueError(f"values must be pairs [epoch, value], got {pair!r}")
            whole("an epoch of values", pair[0], 0)
            number("a value of values", pair[1])
        self.pairs = [(int(epoch), value) for epoch, value in pairs]
        self._epochs = epochs = [epoch for epoch, _ in self.pairs]
        if epochs[0] != 0 or any(a >= b for a, b in pairwise(epochs)):
            raise ValueError(f"the epochs of values must start at 0 and increase, got {epochs}")

    def check(self, *, epochs: int) -> None:
        last = self.pairs[-1][0]
        if last >= epochs:
            raise ValueError(
                f"the epochs of values must lie within the run ({epochs} epochs), got {last}"
            )

    def __call__(self, epoch: int) -> float:
        return float(self.pairs[bisect_right(self._epochs, epoch) - 1][1])
