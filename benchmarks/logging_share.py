"""The share of a run's time that logging takes: record, W&B, progress and state.

Trains complete runs of the digits CNN with default settings. Every call of the recorder is timed
and printed as a share of the time between the first and the last step: the wall-clock time that
training waits, and the CPU time of W&B's client in a background thread. W&B's own process is not
included. Starting and finishing the W&B run happens outside this time and is printed in seconds.
Finally, complete runs with tracking=offline are compared with tracking=disabled, timed in turn;
this ratio includes everything that W&B costs.

The W&B server is that of the tests, on the loopback interface: online; slow, if every response
takes half a second; or gone, if it stops after a tenth of the run.

    python benchmarks/logging_share.py [--server offline online slow gone] [--rounds 5]
        [--epochs 100] [OVERRIDE ...]
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

from cases import describe_machine
from rich.console import Console

from accelerando.composition import compose_runs
from accelerando.runs.record import Recorder
from accelerando.training.loop import Loop
from accelerando.training.run import run
from accelerando.wandb_mirror.mirror import WandbMirror
from wandb_server import WandbServer

SERVERS = ("offline", "online", "slow", "gone")


class MethodTimer:
    """Accumulates the wall-clock time and the thread's CPU time spent in a method.

    Args:
        owner: the class of the method.
        name: the name of the method.
        before_call: called before each call of the method.
    """

    def __init__(
        self, owner: Any, name: str, before_call: Callable[[], None] = lambda: None
    ) -> None:
        self.wall, self.cpu = 0.0, 0.0
        original = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            before_call()
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return original(*arguments, **named)
            finally:
                self.wall += time.perf_counter() - wall
                self.cpu += time.thread_time() - cpu

        self.restore = lambda: setattr(owner, name, original)
        setattr(owner, name, timed)


def time_run(
    kind: str, seed: int, overrides: list[str], server: WandbServer
) -> tuple[float, float, float]:
    """Return the shares of logging and of W&B's client, and the seconds to start and finish W&B."""
    with tempfile.TemporaryDirectory() as root:
        mode = "offline" if kind == "offline" else "online"
        (config,) = compose_runs([f"root={root}", f"tracking={mode}", f"seed={seed}", *overrides])
        rows = 0

        def stop_server() -> None:
            nonlocal rows
            rows += 1
            if kind == "gone" and rows == 10:
                server.stop()

        start, finish = MethodTimer(WandbMirror, "start"), MethodTimer(WandbMirror, "finish")
        logging, loop = MethodTimer(Recorder, "_append", stop_server), MethodTimer(Loop, "run")
        client = MethodTimer(WandbMirror, "_send")
        try:
            run(config, [], Console(quiet=True))
        finally:
            for timer in (start, finish, logging, loop, client):
                timer.restore()
        return logging.wall / loop.wall, client.cpu / loop.wall, start.wall + finish.wall


def print_shares(kind: str, options: argparse.Namespace) -> None:
    """Print the shares for one kind of server."""
    import wandb

    rounds = []
    for seed in range(options.rounds):
        server = WandbServer()
        server.delay = 0.5 if kind == "slow" else 0.0
        server.start()
        os.environ.update(server.environment, WANDB_FINISH_TIMEOUT="10", WANDB_SILENT="true")
        wandb.teardown()
        overrides = [f"epochs={options.epochs}", *options.overrides]
        rounds.append(time_run(kind, seed, overrides, server))
        if kind != "gone":
            server.stop()
    logging, client, outside = zip(*rounds, strict=True)
    print(f"{kind}: logging takes {format_range(logging)} of a run's time")
    print(f"  CPU time of W&B's client in the background: {format_range(client)}")
    print(f"  starting and finishing W&B: {statistics.median(outside):.1f} s", flush=True)


def time_complete_run(mode: str, seed: int, overrides: list[str]) -> float:
    """Return the seconds of a complete run, including the start of W&B's process."""
    import wandb

    wandb.teardown()
    with tempfile.TemporaryDirectory() as root:
        (config,) = compose_runs([f"root={root}", f"tracking={mode}", f"seed={seed}", *overrides])
        start = time.perf_counter()
        run(config, [], Console(quiet=True))
        return time.perf_counter() - start


def print_total_cost(options: argparse.Namespace) -> None:
    """Print the time of runs with offline tracking relative to runs without tracking."""
    overrides = [f"epochs={options.epochs}", *options.overrides]
    ratios = []
    for seed in range(options.rounds):
        modes = ("offline", "disabled") if seed % 2 else ("disabled", "offline")
        seconds = {mode: time_complete_run(mode, seed, overrides) for mode in modes}
        ratios.append(seconds["offline"] / seconds["disabled"])
    print(
        f"a complete run with tracking=offline takes {statistics.median(ratios):.3f} times as long "
        f"as with tracking=disabled ({min(ratios):.3f} to {max(ratios):.3f})"
    )


def format_range(shares: tuple[float, ...]) -> str:
    """Format the median and the range."""
    return f"{statistics.median(shares):.2%} ({min(shares):.2%} to {max(shares):.2%})"


def main() -> None:
    """Print the shares for each kind of server, then the total cost of W&B."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for train.py")
    parser.add_argument("--server", nargs="*", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()
    print(describe_machine())
    for kind in options.server:
        print_shares(kind, options)
    print_total_cost(options)


if __name__ == "__main__":
    main()
