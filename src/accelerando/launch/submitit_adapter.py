"""The parts of submitit that are private or undocumented, gathered in one place.

``tests/test_submitit_adapter.py`` fails if a release of submitit moves one of them.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from submitit import JobEnvironment, SlurmExecutor

REQUEUE_SIGNAL = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
"""The signal that submitit requests from SLURM before the time limit."""


def executor_parameters() -> set[str]:
    """Return the parameters of submitit's executor for SLURM."""
    return set(SlurmExecutor._valid_parameters())


def requeue_handler() -> Callable[[], None]:
    """Return submitit's reaction to ``REQUEUE_SIGNAL``: requeue the job and end this process.

    If this is not the first process of the job, it only returns: the first one requeues the job.
    """
    handler: Any = signal.getsignal(REQUEUE_SIGNAL)
    return partial(handler, REQUEUE_SIGNAL, None)
