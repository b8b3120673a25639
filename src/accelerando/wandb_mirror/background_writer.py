"""Pass items to a slow consumer from a background thread, so that the producer never waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

BATCHING_INTERVAL = 1.0
"""Seconds between two batches: a single row costs milliseconds, in a batch a fifth of one."""


class BackgroundWriter(Generic[Item]):
    """Passes on items in order, in batches, about once a second.

    Args:
        write: called with each batch, always from the same thread.
    """

    def __init__(self, write: Callable[[list[Item]], None]) -> None:
        self._write = write
        self._queue: list[Item] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="W&B writer", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue an item; never waits."""
        self._queue.append(item)

    def close(self, timeout: float) -> bool:
        """Pass on the remaining items.

        Returns:
            Whether that was done within ``timeout`` seconds.
        """
        self._closing.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(BATCHING_INTERVAL)
            count = len(self._queue)
            if count:
                self._write(self._queue[:count])
                del self._queue[:count]
