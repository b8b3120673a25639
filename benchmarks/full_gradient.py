"""The full-gradient pass against the bare passes it is made of, curvlinops, and the usual loop.

All on the same model and data, timed in turn in one run, with torch's default threads or --threads;
the usual loop in a process of its own, the others in one that is set up as that of a run:

- bare: forward and backward over the same chunks, nothing else, at the best of several chunk sizes
- curvlinops: its gradient over the same chunks
- usual: what research code does: a DataLoader at batch size 8, ``backward`` into ``grad``

It prints the pass's time as a multiple of the first, and as a speed-up over the others, each as a
median over the rounds with its range. Then what a pass takes at most in memory, in copies of the
parameters of an MLP so wide that its activations are nothing beside them, over 32 and over 128
examples, beside what the bare passes take: each in a process of its own (Linux).

    python benchmarks/full_gradient.py [--model mlp mlp_digits cnn cnn_bn resnet18] [--rounds 3]
        [--threads 1] [--device cpu] [--channels-last]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from cases import wait
from curvlinops import HessianLinearOperator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from accelerando.measure import TensorExamples, full_gradient, split_into_chunks
from accelerando.models import Cnn, Mlp, ResNet
from accelerando.training.device import prepare_device

CHUNKS = (64, 128, 256, 512)

SHORTEST = 0.5
"""Seconds: a pass that takes less is timed over several."""


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "mlp": (lambda: Mlp((1, 8, 8), 10, [128, 128]), (1, 8, 8), 20_000),
    "mlp_digits": (lambda: Mlp((1, 8, 8), 10, [128, 128]), (1, 8, 8), 1437),
    "cnn": (lambda: Cnn((1, 28, 28), 10, [16, 32]), (1, 28, 28), 4096),
    "cnn_bn": (lambda: Cnn((1, 28, 28), 10, [16, 32], norm="batch"), (1, 28, 28), 4096),
    "resnet18": (lambda: ResNet((3, 32, 32), 100, [2, 2, 2, 2]), (3, 32, 32), 256),
}


def bare(model: nn.Module, images: Tensor, labels: Tensor, chunk: int) -> None:
    """Forward and backward, nothing else."""
    parameters = list(model.parameters())
    for x, y in split_into_chunks(TensorExamples(images, labels), chunk):
        torch.autograd.grad(cross_entropy(model(x), y), parameters)


def usual(name: str, threads: int, device: str) -> float:
    """Seconds that the loop of research code takes at the schedule's first batch size."""
    torch.set_num_threads(threads)
    model, images, labels = made(name)
    return seconds(partial(usual_pass, model.to(device), images, labels, device))


def usual_pass(model: nn.Module, images: Tensor, labels: Tensor, device: str) -> None:
    """Through a DataLoader, every batch's gradient added up."""
    model.zero_grad()
    # its workers as torch starts them by itself: a process that was spawned would spawn them
    loader = DataLoader(
        TensorDataset(images, labels), 8, num_workers=2, multiprocessing_context="fork"
    )
    for x, y in loader:
        loss = cross_entropy(model(x.to(device)), y.to(device)) / len(loader)
        loss.backward()
    torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm().item()


def curvlinops(model: nn.Module, images: Tensor, labels: Tensor, chunk: int) -> None:
    """The gradient of another library over the same chunks."""
    data = list(split_into_chunks(TensorExamples(images, labels), chunk))
    HessianLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        list(model.parameters()),
        data,
        check_deterministic=False,
        num_data=len(labels),
    ).gradient_and_loss()


def seconds(call: Callable[[], object]) -> float:
    """Time that a call takes."""
    wait()
    begin = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - begin


def copies(measured: bool, examples: int) -> float:
    """What a pass takes at most beside the parameters, in copies of them (Linux)."""
    torch.set_num_threads(1)
    call = full_gradient if measured else bare
    images, labels = torch.randn(examples, 1, 32, 32), torch.zeros(examples, dtype=torch.int64)
    call(Mlp((1, 32, 32), 10, [8]), images, labels, chunk=8)  # what the first call loads stays
    model = Mlp((1, 32, 32), 10, [4096, 4096])
    size = sum(p.nbytes for p in model.parameters())
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    call(model, images, labels, chunk=8)
    return (resident("VmHWM") - before) / size


def resident(which: str) -> int:
    """Memory of this process, in bytes: VmRSS now, VmHWM at most since it was last cleared."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{which}:")[1].split()[0]) * 1024


def memory() -> None:
    """Print what passes take in memory."""
    for name, measured in (("bare passes", False), ("full_gradient", True)):
        found = []
        for examples in (32, 128):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                found.append(fresh.submit(copies, measured, examples).result())
        print(
            f"{name}: {found[0]:.2f} copies of the parameters at most over 32 examples, "
            f"{found[1]:.2f} over 128"
        )


def spread(ratios: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def made(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Model and data."""
    make, shape, examples = MODELS[name]
    return make().train(), torch.randn(examples, *shape), torch.randint(0, 10, (examples,))


def measure(name: str, options: argparse.Namespace, elsewhere: Executor) -> None:
    """Time one model and print its ratios; the usual loop has its images contiguous."""
    device = options.device
    order = torch.channels_last if options.channels_last else torch.contiguous_format
    model, images, labels = made(name)
    model, images = (each.to(device, memory_format=order) for each in (model, images))
    labels = labels.to(device)
    examples = len(labels)
    chunks = [chunk for chunk in CHUNKS if chunk <= examples] * 3
    quickest, best = min((seconds(partial(bare, model, images, labels, c)), c) for c in chunks)

    def ours() -> object:
        return full_gradient(model, images, labels, chunk=best)

    calls: dict[str, Callable[[], object]] = {
        "ours": ours,
        "bare": partial(bare, model, images, labels, best),
        "curvlinops": partial(curvlinops, model, images, labels, best),
    }
    often = math.ceil(SHORTEST / quickest)
    times: dict[str, list[float]] = {key: [] for key in (*calls, "usual")}
    for _ in range(options.rounds):
        for key in calls:
            times[key].append(0.0)
        for _ in range(often):  # pass by pass: what else the machine does meets all alike
            for key, call in calls.items():
                times[key][-1] += seconds(call) / often
        there = elsewhere.submit(usual, name, torch.get_num_threads(), device)
        times["usual"].append(there.result())
        time.sleep(0.5)  # its workers take a moment to leave
    ratio = {
        key: [other / own for other, own in zip(values, times["ours"], strict=True)]
        for key, values in times.items()
    }
    inverse = [1 / value for value in ratio["bare"]]
    print(
        f"{name}, n={examples}, chunk {best}: {spread(inverse)} times the bare passes; "
        f"{spread(ratio['curvlinops'])} times as fast as curvlinops, "
        f"{spread(ratio['usual'])} times as fast as the usual loop at b=8"
    )


def main() -> None:
    """Print the ratios of every model asked for."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    prepare_device(options.device, options.threads or torch.get_num_threads())
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere:
        for name in options.model:
            measure(name, options, elsewhere)
    memory()


if __name__ == "__main__":
    main()
