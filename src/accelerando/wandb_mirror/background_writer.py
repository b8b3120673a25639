"""Rows are given to a slow taker by a thread of its own, beside the training."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

TOGETHER = 1.0
"""Seconds for which rows are kept: one call takes milliseconds, many in a row a fifth of one."""


class BackgroundWriter(Generic[Item]):
    """Hands rows on, in their order, about once a second.

    Args:
        take: called with the rows since the last call, always in the same thread.
    """

    def __init__(self, take: Callable[[list[Item]], None]) -> None:
        self._take = take
        self._rows: list[Item] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="rows to W&B", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Keep an item for the thread; never waits."""
        self._rows.append(item)

    def close(self, patience: float) -> bool:
        """Hand on what is left.

        Returns:
            Whether all was taken within ``patience`` seconds.
        """
        self._closing.set()
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _work(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(TOGETHER)
            count = len(self._rows)
            if count:
                self._take(self._rows[:count])
                del self._rows[:count]
