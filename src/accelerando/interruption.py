"""Signals that ask a run to stop: they only set a flag, which the code checks at safe points."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that ask a run to stop."""
EXIT_INTERRUPTED = os.EX_TEMPFAIL
"""Exit code 75 of an interrupted run: rerun the same command to resume."""


class Interrupted(SystemExit):
    """Raised at a point that the run can resume from, after a signal asked it to stop.

    If nothing handles it, the process exits with ``EXIT_INTERRUPTED``. Like KeyboardInterrupt it is
    not an ``Exception``, so that code that recovers from errors does not swallow it.

    Args:
        received: the signal; None if another process of the run received it.
    """

    def __init__(self, received: signal.Signals | None) -> None:
        super().__init__(EXIT_INTERRUPTED)
        self.received = received

    def __str__(self) -> str:
        return "a signal to another process" if self.received is None else self.received.name


class SignalHandler:
    """Context manager in which ``SIGNALS`` set a flag instead of ending the process.

    A second SIGINT raises KeyboardInterrupt immediately. SIGHUP stays ignored if it was ignored
    before: under nohup the run outlives its terminal. Only the main thread receives signals; in any
    other thread the context manager has no effect.
    """

    def __init__(self) -> None:
        self.signals: list[signal.Signals] = []
        """Signals received so far, in order."""

    @property
    def received(self) -> signal.Signals | None:
        """The last signal received."""
        return self.signals[-1] if self.signals else None

    def __enter__(self) -> SignalHandler:
        global _active
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            self._outer, _active = _active, self
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        global _active
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._previous:
            _active = self._outer

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in self.signals:
            raise KeyboardInterrupt
        self.signals.append(signal.Signals(number))

    def check_interrupt(self) -> None:
        """Raise Interrupted if a signal was received. Call it where the run can resume from."""
        if self.received is not None:
            raise Interrupted(self.received)


_active: SignalHandler | None = None
"""The innermost handler entered in the main thread."""


def check_interrupt() -> None:
    """Raise Interrupted if the active ``SignalHandler`` received a signal.

    For code that waits deep inside a call: signal handlers are process-wide anyway.
    """
    if _active is not None:
        _active.check_interrupt()


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Start child processes with ``SIGNALS`` blocked: they inherit the mask of this thread.

    Terminals and SLURM signal every process of a job; only the main process of the run acts on it.
    multiprocessing's resource tracker unblocks SIGINT and SIGTERM here when it is started, so it
    needs a block of its own before that of the first child.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_signals(numbers: Sequence[signal.Signals] = SIGNALS) -> None:
    """Undo ``signals_blocked`` in a child process, for some signals or all."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
