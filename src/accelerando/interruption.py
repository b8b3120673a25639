"""Signals that ask a run to stop only set a flag; the loop acts on it between steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class Interrupted(BaseException):
    """Raised at a place where the run can be continued from.

    Like KeyboardInterrupt it is no error, and not for those to catch who go on after errors.
    """


class Interruption:
    """Within it SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 set a flag.

    A second SIGINT ends at once. A SIGHUP that is ignored stays so: nohup wants the run to go on
    when its terminal is gone. Signals reach the main thread alone; elsewhere it sets nothing.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self) -> None:
        self.signals: list[signal.Signals] = []
        """Those that came, in order."""

    @property
    def received(self) -> signal.Signals | None:
        """The last that came."""
        return self.signals[-1] if self.signals else None

    def __enter__(self) -> Interruption:
        self._earlier = {}
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._earlier[number] = signal.signal(number, self._set)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _set(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in self.signals:
            raise KeyboardInterrupt
        self.signals.append(signal.Signals(number))

    def check_interrupt(self) -> None:
        """Raise Interrupted where a signal has come; called where nothing is half done."""
        if self.received is not None:
            raise Interrupted(self.received.name)


def check_interrupt() -> None:
    """``Interruption.check_interrupt`` of the one that listens in this process, if there is one.

    For places that wait deep inside: who hears signals is a matter of the whole process anyway.
    """
    listener = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(listener, Interruption):
        listener.check_interrupt()


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Keep signals from processes that are started in it: they inherit that signals wait.

    Terminals and SLURM signal every process there is. (Who listens to one by itself gets it.)
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, Interruption.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
