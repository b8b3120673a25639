"""What an epoch takes besides forward, backward and the parameter update; and memory.

After every step of the real loop one bare step is made, of the same model on one prepared batch:
forward, backward, update, nothing else. What the loop's steps take longer is spent on choosing,
preparing and counting: the share outside. It is given as a median over epochs, with its range, by
the clock and by processor time, which other work on the machine moves less; the first epoch is not
counted, measurements and checkpoints are left out. Beside it stands how much of the machine's peak
the bare step reaches: floating-point operations of forward and backward per second, over those of a
large matrix product with as many threads, timed in turn.

The second part starts two processes that hold the same cached data, and prints what each has in
memory, and what of it is its own (Linux).

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
from cases import CIFAR, RATE, Case, Never, machine, task_of, train, wait
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from accelerando.data.cache import load_cached
from accelerando.data.in_memory import in_memory_datasets
from accelerando.data.source import Arrays, LabelledImages
from accelerando.interruption import SignalHandler

CASES = {
    "mlp": Case(("model=mlp", "dataset=digits"), batch=8, examples=1437),
    "cnn-digits": Case(("model=cnn", "dataset=digits"), batch=8, examples=1437),
    "cnn": Case(("model=cnn", "dataset=fashion_mnist"), batch=8, examples=4096),
    "cnn_bn": Case(("model=cnn_bn", "dataset=fashion_mnist"), batch=8, examples=4096),
    "resnet18": Case(("model=resnet18", *CIFAR), batch=8, examples=96),
}
QUICK = list(CASES)
CASES |= {
    name: Case((f"model={name}", *CIFAR), batch=8, examples=32)
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
    batch=8,
    examples=16,
)
SIDE = 2048
"""Rows and columns of the matrices that the peak is measured with."""


def bare(model: nn.Module, parameters: list[Tensor], images: Tensor, labels: Tensor) -> None:
    """Forward, backward, update."""
    gradients = torch.autograd.grad(cross_entropy(model(images), labels), parameters)
    with torch.no_grad():
        torch._foreach_add_(parameters, gradients, alpha=-RATE)


class Time(NamedTuple):
    """A moment, or a stretch of time, in seconds."""

    clock: float
    processor: float

    def since(self, earlier: Time) -> Time:
        return Time(self.clock - earlier.clock, self.processor - earlier.processor)


def now() -> Time:
    """The moment of the call, once all is computed that was asked for before it."""
    wait()
    return Time(time.perf_counter(), time.process_time())


def seconds(call: Callable[[], object]) -> Time:
    """Time that a call takes."""
    begin = now()
    call()
    return now().since(begin)


def total(times: Iterable[Time]) -> Time:
    """Their sum."""
    return Time(*map(sum, zip(*times, strict=True)))


class Alternation(SignalHandler):
    """Makes a bare step, and the peak's product at an epoch's end, after each step of a loop.

    Args:
        step: a bare step.
        steps: of an epoch.
        device: of both.
    """

    def __init__(self, step: Callable[[], None], steps: int, device: torch.device) -> None:
        super().__init__()
        self._step, self._steps = step, steps
        self._matrix = torch.randn(SIDE, SIDE, device=device)
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
        """Time of the loop's steps, of the bare ones and of the product, in all but the first."""
        for epoch, product in enumerate(self.product[1:], start=1):
            part = slice(epoch * self._steps, (epoch + 1) * self._steps)
            yield total(self.loop[part]), total(self.bare[part]), product


def share(name: str, case: Case, options: argparse.Namespace) -> None:
    """Time one model and print its share."""
    task = task_of(
        replace(case, epochs=1 + options.rounds),
        f"hardware.device={options.device}",
        f"hardware.threads={options.threads}",
        f"hardware.channels_last={options.channels_last}",
        "checkpoint.seconds=1e9",
        measured=Never,
    )
    model, parameters = task.model, list(task.model.parameters())
    images, labels = next(task.data[0].read([slice(0, case.batch)]))
    with FlopCounterMode(display=False) as counter:
        bare(model, parameters, images, labels)
    steps = int(task.plan.steps_per_epoch[0])
    timer = Alternation(lambda: bare(model, parameters, images, labels), steps, task.device)
    train(task, timer)
    rounds = list(timer.epochs())
    flops = counter.get_total_flops()
    peak = [
        flops * steps / alone.clock * product.clock / (2 * SIDE**3) for _, alone, product in rounds
    ]
    step = statistics.median(loop.clock for loop, _, _ in rounds) / steps
    outside = [
        spread([1 - alone[kind] / loop[kind] for loop, alone, _ in rounds]) for kind in (0, 1)
    ]
    print(f"{name}: b={case.batch}, {steps} steps an epoch, {step * 1e3:.3g} ms a step")
    print(f"  outside of forward, backward and update: {outside[0]}")
    print(f"    by processor time: {outside[1]}")
    print(f"  the bare step: {flops / 1e6:,.3g} MFLOP at {spread(peak)} of the peak", flush=True)


def spread(shares: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"


def hold(mebibytes: int, pipe: Connection) -> None:
    """Map cached data as a run does, read every pixel, and stay until told to go."""
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
def holder(mebibytes: int) -> Iterator[int]:
    """A process that holds data, by its id."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=hold, args=(mebibytes, there))
    process.start()
    here.recv()
    try:
        assert process.pid is not None
        yield process.pid
    finally:
        here.send("go")
        process.join()


def memory(process: int) -> tuple[float, float]:
    """What a process has in memory, and what of it no other has, in MiB."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name.rstrip(":"): int(size) / 1024 for name, size, *_ in map(str.split, lines)}
    return sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"]


def shared(mebibytes: int) -> None:
    """Print what a second process with the same data adds."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ACCELERANDO_DATA"] = folder
        with holder(mebibytes):  # which decodes them, and so needs more than those that follow
            pass
        with holder(1), holder(1) as small:
            without = memory(small)
        with holder(mebibytes) as first:
            alone = memory(first)
            with holder(mebibytes) as second:
                both = memory(first), memory(second)
    print(f"{mebibytes} MiB of cached data, in MiB:")
    print(f"  one process: {alone[0]:.0f} resident, {alone[1]:.0f} its own")
    for number, (resident, own) in enumerate(both, start=1):
        print(f"  process {number} of two: {resident:.0f} resident, {own:.0f} its own")
    print(f"  one of two with 1 MiB of data: {without[0]:.0f} resident, {without[1]:.0f} its own")


def main() -> None:
    """Print the shares of every case asked for, then the memory."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="*", choices=CASES, default=QUICK)
    parser.add_argument("--rounds", type=int, default=5, help="epochs that count")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--mebibytes", type=int, default=200, help="of data; 0: no such part")
    options = parser.parse_args()
    print(f"{machine()}; {options.threads} threads")
    for name in options.case:
        share(name, CASES[name], options)
    if options.mebibytes:
        shared(options.mebibytes)


if __name__ == "__main__":
    main()
