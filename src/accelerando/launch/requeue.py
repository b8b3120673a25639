"""Requeue the SLURM job of this process, so that its runs resume under the same job id.

Batch scripts call it as ``python -m accelerando.launch.requeue``.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable

from accelerando.interruption import SignalHandler
from accelerando.runs.slurm_record import current_job

PAUSES = (5, 10, 20, 0)
"""Seconds to wait after each failed attempt; SLURM announces the time limit 120 s in advance."""


def scontrol_requeue() -> None:
    """Ask SLURM once to requeue the job of this process."""
    subprocess.run(["scontrol", "requeue", str(current_job())], check=True, timeout=60)


def requeue(attempt: Callable[[], None] = scontrol_requeue) -> None:
    """Call ``attempt`` until it succeeds, as the SLURM controller may be restarting.

    Gives up after a few attempts, with a message, or if the job is cancelled in the meantime.
    """
    with SignalHandler() as signals:
        for pause in PAUSES:
            try:
                attempt()
                return
            except (OSError, subprocess.SubprocessError) as error:
                print(f"could not requeue the job: {error}", file=sys.stderr, flush=True)
            time.sleep(pause)
            if signal.SIGTERM in signals.signals:
                return
    print("not requeued: submit the saved runs again to resume them", file=sys.stderr)


if __name__ == "__main__":
    requeue()
