"""The share of a run's time that logging takes: record, W&B, progress and state.

Whole runs of the digits CNN at the default cadence, as ``train.py`` makes them. What the recorder
does is timed call by call, and given as a share of the time from the first step to the last: what
training waits for by the clock, then the processor time that W&B's client takes beside it, in a
thread of the run's. W&B's own process is in neither. The beginning and the end of the W&B run are
outside of that time, and given in seconds. At the end whole runs with tracking=offline are set
against those with tracking=disabled, timed in turn: all that W&B costs is in that ratio.

The server is the one that the tests use, on loopback: as it is; slow, where every answer takes
half a second; gone, after the first tenth of the run.

    python benchmarks/logging_share.py [--server offline online slow gone] [--rounds 5]
        [--epochs 100] [WORD ...]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cases import machine
from rich.console import Console

from accelerando.composition import compose_runs
from accelerando.runs.record import Recorder
from accelerando.training.loop import Loop
from accelerando.training.run import run
from accelerando.wandb_mirror.mirror import WandbMirror
from wandb_server import WandbServer

SERVERS = ("offline", "online", "slow", "gone")


class Clock:
    """Time spent in a method, by the clock and by its thread's processor, over all its calls."""

    def __init__(self, owner: Any, name: str, act: Callable[[], None] = lambda: None) -> None:
        self.seconds, self.processor, self.calls = 0.0, 0.0, 0
        original = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            act()
            clock, processor = time.perf_counter(), time.thread_time()
            try:
                return original(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - clock
                self.processor += time.thread_time() - processor
                self.calls += 1

        self._restore = lambda: setattr(owner, name, original)
        setattr(owner, name, timed)

    def restore(self) -> Clock:
        self._restore()
        return self


def once(how: str, seed: int, words: list[str], server: WandbServer) -> tuple[float, float, float]:
    """One run: the shares of logging and of W&B's client, and seconds before and after it."""
    with tempfile.TemporaryDirectory() as root:
        mode = "offline" if how == "offline" else "online"
        (config,) = compose_runs([f"root={root}", f"tracking={mode}", f"seed={seed}", *words])
        rows = 0

        def leave() -> None:
            nonlocal rows
            rows += 1
            if how == "gone" and rows == 10:
                server.stop()

        begin, end = Clock(WandbMirror, "start"), Clock(WandbMirror, "finish")
        logging, loop = Clock(Recorder, "_append", leave), Clock(Loop, "run")
        beside = Clock(WandbMirror, "_send")
        try:
            run(config, [], Console(quiet=True))
        finally:
            for clock in (begin, end, logging, loop, beside):
                clock.restore()
        around = begin.seconds + end.seconds
        return logging.seconds / loop.seconds, beside.processor / loop.processor, around


def measure(how: str, options: argparse.Namespace) -> None:
    """Print the share for one kind of server."""
    import wandb

    shares = []
    for seed in range(options.rounds):
        server = WandbServer()
        server.delay = 0.5 if how == "slow" else 0.0
        server.start()
        os.environ.update(server.environment, WANDB_FINISH_TIMEOUT="10", WANDB_SILENT="true")
        wandb.teardown()
        shares.append(once(how, seed, [f"epochs={options.epochs}", *options.words], server))
        if how != "gone":
            server.stop()
    clock, client, around = zip(*shares, strict=True)
    print(f"{how}: logging takes {spread(clock)} of a run,")
    print(f"  W&B's client beside it {spread(client)} of its processor time;")
    print(f"  beginning and end {statistics.median(around):.1f} s", flush=True)


def whole(mode: str, seed: int, words: list[str]) -> float:
    """Seconds that a whole run takes, with a process of W&B's of its own."""
    import wandb

    wandb.teardown()
    with tempfile.TemporaryDirectory() as root:
        (config,) = compose_runs([f"root={root}", f"tracking={mode}", f"seed={seed}", *words])
        began = time.perf_counter()
        run(config, [], Console(quiet=True))
        return time.perf_counter() - began


def measure_whole(options: argparse.Namespace) -> None:
    """Print how much longer runs take that are mirrored offline."""
    words = [f"epochs={options.epochs}", *options.words]
    ratios = []
    for seed in range(options.rounds):
        modes = ("offline", "disabled") if seed % 2 else ("disabled", "offline")
        seconds = {mode: whole(mode, seed, words) for mode in modes}
        ratios.append(seconds["offline"] / seconds["disabled"])
    print(
        f"a whole run takes {statistics.median(ratios):.3f} times as long offline as disabled "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )


def spread(shares: tuple[float, ...]) -> str:
    """Median and range."""
    return f"{statistics.median(shares):.2%} ({min(shares):.2%} to {max(shares):.2%})"


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="settings, as for train.py")
    parser.add_argument("--server", nargs="*", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()
    print(machine())
    for how in options.server:
        measure(how, options)
    measure_whole(options)


if __name__ == "__main__":
    main()
