"""The overhead of the training loop over its bare steps, and the memory that processes share.

After every step of the real loop a bare step runs on the same model and a prepared batch: forward,
backward and update, nothing else. The additional time of the loop's steps, which it spends on
choosing and preparing batches and on bookkeeping, is its overhead. It is printed as a share of the
loop's time, as the median over epochs and the range, in wall-clock time and in CPU time, which
depends less on other load. The first epoch, measurements and checkpoints do not count. Also prints
how much of the machine's peak the bare step reaches: its floating-point operations per second
relative to those of a large matrix product with the same number of threads, timed in turn.

The second part starts two processes that use the same cached data, and prints their resident and
private memory (Linux only).

    python benchmarks/loop_share.py [--case mlp cnn-digits cnn cnn_bn resnet18 ... (--help: all)]
        [--rounds 5] [--threads 1] [--device cpu] [--channels-last] [--mebibytes 200]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from cases import (
    CIFAR,
    LEARNING_RATE,
    Case,
    Never,
    describe_machine,
    make_task,
    synchronize,
    train,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from accelerando.data.cache import load_cached
from accelerando.data.in_memory import in_memory_datasets
from accelerando.data.source import Arrays, LabelledImages
from accelerando.interruption import SignalHandler
from accelerando.torch_adapter import foreach_add_

CASES = {
    "mlp": Case(("model=mlp", "dataset=digits"), batch_size=8, examples=1437),
    "cnn-digits": Case(("model=cnn", "dataset=digits"), batch_size=8, examples=1437),
    "cnn": Case(("model=cnn", "dataset=fashion_mnist"), batch_size=8, examples=4096),
    "cnn_bn": Case(("model=cnn_bn", "dataset=fashion_mnist"), batch_size=8, examples=4096),
    "resnet18": Case(("model=resnet18", *CIFAR), batch_size=8, examples=96),
}
QUICK = list(CASES)
CASES |= {
    name: Case((f"model={name}", *CIFAR), batch_size=8, examples=32)
    for name in (
        "resnet34",
        "resnet50",
        "wide_resnet_16_8",
        "wide_resnet_40_4",
        "wide_resnet_28_10",
    )
}
CASES["resnet34_imagenet"] = Case(
    ("model=resnet34_imagenet", *CIFAR, "dataset.shape=[3,224,224]", "dataset.examples=100"),
    batch_size=8,
    examples=16,
)
MATRIX_SIZE = 2048
"""Rows and columns of the matrices in the product that measures the peak."""


def bare_step(model: nn.Module, parameters: list[Tensor], images: Tensor, labels: Tensor) -> None:
    """Run forward, backward and update."""
    gradients = torch.autograd.grad(cross_entropy(model(images), labels), parameters)
    with torch.no_grad():
        foreach_add_(parameters, gradients, alpha=-LEARNING_RATE)


class Time(NamedTuple):
    """A point in time or a duration, in seconds."""

    wall: float
    cpu: float

    def since(self, earlier: Time) -> Time:
        return Time(self.wall - earlier.wall, self.cpu - earlier.cpu)


def now() -> Time:
    """Return the current time, after all pending work of a GPU."""
    synchronize()
    return Time(time.perf_counter(), time.process_time())


def seconds(call: Callable[[], object]) -> Time:
    """Return how long a call takes."""
    start = now()
    call()
    return now().since(start)


def total(times: Iterable[Time]) -> Time:
    """Return the sum of durations."""
    return Time(*map(sum, zip(*times, strict=True)))


class AlternatingTimer(SignalHandler):
    """Times a bare step after each step of a loop, and a matrix product after each epoch.

    Args:
        step: a bare step.
        steps: steps per epoch.
        device: device of the loop and the bare steps.
    """

    def __init__(self, step: Callable[[], None], steps: int, device: torch.device) -> None:
        super().__init__()
        self._step, self._steps = step, steps
        self._matrix = torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device)
        self.loop: list[Time] = []
        self.bare: list[Time] = []
        self.product: list[Time] = []
        self._end = now()

    def check_interrupt(self) -> None:
        self.loop.append(now().since(self._end))
        self.bare.append(seconds(self._step))
        if len(self.loop) % self._steps == 0:
            self.product.append(seconds(lambda: self._matrix @ self._matrix))
        self._end = now()

    def epochs(self) -> Iterator[tuple[Time, Time, Time]]:
        """Yield the times of loop, bare steps and matrix product in each epoch but the first."""
        for epoch, product in enumerate(self.product[1:], start=1):
            steps = slice(epoch * self._steps, (epoch + 1) * self._steps)
            yield total(self.loop[steps]), total(self.bare[steps]), product


def print_overhead(name: str, case: Case, options: argparse.Namespace) -> None:
    """Time one model and print the loop's overhead."""
    task = make_task(
        replace(case, epochs=1 + options.rounds),
        f"hardware.device={options.device}",
        f"hardware.threads={options.threads}",
        f"hardware.channels_last={options.channels_last}",
        "checkpoint.seconds=1e9",
        measurement=Never,
    )
    model, parameters = task.model, list(task.model.parameters())
    images, labels = next(task.data[0].read([slice(0, case.batch_size)]))
    with FlopCounterMode(display=False) as counter:
        bare_step(model, parameters, images, labels)
    steps = int(task.plan.steps_per_epoch[0])
    timer = AlternatingTimer(
        lambda: bare_step(model, parameters, images, labels), steps, task.device
    )
    train(task, timer)
    rounds = list(timer.epochs())
    flops = counter.get_total_flops()
    peak = [
        flops * steps / bare.wall * product.wall / (2 * MATRIX_SIZE**3)
        for _, bare, product in rounds
    ]
    step = statistics.median(loop.wall for loop, _, _ in rounds) / steps
    print(
        f"{name}: batch size {case.batch_size}, {steps} steps per epoch, "
        f"{step * 1e3:.3g} ms per step"
    )
    wall = format_range([1 - bare.wall / loop.wall for loop, bare, _ in rounds])
    cpu = format_range([1 - bare.cpu / loop.cpu for loop, bare, _ in rounds])
    print(f"  overhead over forward, backward and update: {wall}; of CPU time: {cpu}")
    print(f"  bare step: {flops / 1e6:,.3g} MFLOP at {format_range(peak)} of the peak", flush=True)


def format_range(shares: list[float]) -> str:
    """Format the median and the range."""
    return f"{statistics.median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"


def hold_data(mebibytes: int, pipe: Connection) -> None:
    """Map cached data as a run does, read every pixel, and wait for a message."""
    examples = mebibytes * 2**20 // (3 * 32 * 32)

    def decode() -> LabelledImages:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (examples, 3, 32, 32), np.uint8)
        labels = np.zeros(examples, np.int64)
        return LabelledImages(
            train_images=images,
            train_labels=labels,
            test_images=images[:1].copy(),
            test_labels=labels[:1].copy(),
        )

    cached = load_cached("benchmark", [str(mebibytes)], decode)
    arrays = Arrays(**vars(cached), mean=(128,) * 3, std=(74,) * 3)
    train_set, _ = in_memory_datasets(arrays, torch.device("cpu"))
    pipe.send(int(train_set.images.sum()))
    pipe.recv()


@contextmanager
def data_process(mebibytes: int) -> Iterator[int]:
    """Start a process that holds data; yield its process id."""
    spawn = multiprocessing.get_context("spawn")
    connection, remote = spawn.Pipe()
    process = spawn.Process(target=hold_data, args=(mebibytes, remote))
    process.start()
    connection.recv()
    try:
        assert process.pid is not None
        yield process.pid
    finally:
        connection.send("exit")
        process.join()


def memory_of(process: int) -> tuple[float, float]:
    """Return the resident and the private memory of a process, in MiB."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name.rstrip(":"): int(size) / 1024 for name, size, *_ in map(str.split, lines)}
    return sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"]


def print_shared_memory(mebibytes: int) -> None:
    """Print the memory that a second process with the same data adds."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ACCELERANDO_DATA"] = folder
        with data_process(mebibytes):  # decodes the data, so it needs more than the others
            pass
        with data_process(1), data_process(1) as process:
            small = memory_of(process)
        with data_process(mebibytes) as first:
            alone = memory_of(first)
            with data_process(mebibytes) as second:
                both = memory_of(first), memory_of(second)
    print(f"memory with {mebibytes} MiB of cached data, in MiB:")
    print(f"  one process: {alone[0]:.0f} resident, {alone[1]:.0f} private")
    for number, (resident, private) in enumerate(both, start=1):
        print(f"  process {number} of two: {resident:.0f} resident, {private:.0f} private")
    print(f"  one of two with 1 MiB of data: {small[0]:.0f} resident, {small[1]:.0f} private")


def main() -> None:
    """Print the overhead of every selected case, then the memory."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="*", choices=CASES, default=QUICK)
    parser.add_argument("--rounds", type=int, default=5, help="epochs, in addition to the first")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument(
        "--mebibytes", type=int, default=200, help="size of the cached data; 0 to skip"
    )
    options = parser.parse_args()
    print(f"{describe_machine()}; {options.threads} threads")
    for name in options.case:
        print_overhead(name, CASES[name], options)
    if options.mebibytes:
        print_shared_memory(options.mebibytes)


if __name__ == "__main__":
    main()
