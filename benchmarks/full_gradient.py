"""The time and memory of full_gradient, relative to its bare passes, curvlinops and a usual loop.

All use the same model and data and are timed in turn:

- bare: forward and backward over the same chunks and nothing else, at the best of several chunk
  sizes
- curvlinops: the gradient of another library over the same chunks
- usual loop: a DataLoader at batch size 8 and ``backward`` into ``grad``, as in research code; it
  runs in a separate process with torch's default settings

Prints the time of full_gradient relative to the bare passes, and its speed-up over the other two,
each as the median over the rounds and the range. Then prints the peak memory of full_gradient and
of the bare passes in copies of the parameters, for a wide MLP with negligible activations, over 32
and over 128 examples, each in a separate process (Linux only).

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
from cases import synchronize
from curvlinops import HessianLinearOperator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from accelerando.measure import TensorExamples, full_gradient, split_into_chunks
from accelerando.models import Cnn, Mlp, ResNet
from accelerando.training.device import prepare_device

CHUNKS = (64, 128, 256, 512)

MIN_SECONDS = 0.5
"""Faster passes are repeated to take at least this long per round."""

MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "mlp": (lambda: Mlp((1, 8, 8), 10, [128, 128]), (1, 8, 8), 20_000),
    "mlp_digits": (lambda: Mlp((1, 8, 8), 10, [128, 128]), (1, 8, 8), 1437),
    "cnn": (lambda: Cnn((1, 28, 28), 10, [16, 32]), (1, 28, 28), 4096),
    "cnn_bn": (lambda: Cnn((1, 28, 28), 10, [16, 32], norm="batch"), (1, 28, 28), 4096),
    "resnet18": (lambda: ResNet((3, 32, 32), 100, [2, 2, 2, 2]), (3, 32, 32), 256),
}
"""Constructor, shape of an image, and number of examples."""


def make_model_and_data(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a model of ``MODELS`` with random images and labels."""
    make, shape, examples = MODELS[name]
    return make().train(), torch.randn(examples, *shape), torch.randint(0, 10, (examples,))


def bare_passes(model: nn.Module, images: Tensor, labels: Tensor, chunk: int) -> None:
    """Run forward and backward over all chunks, and nothing else."""
    parameters = list(model.parameters())
    for x, y in split_into_chunks(TensorExamples(images, labels), chunk):
        torch.autograd.grad(cross_entropy(model(x), y), parameters)


def curvlinops_gradient(model: nn.Module, images: Tensor, labels: Tensor, chunk: int) -> None:
    """Compute the gradient with curvlinops over the same chunks."""
    HessianLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        list(model.parameters()),
        list(split_into_chunks(TensorExamples(images, labels), chunk)),
        check_deterministic=False,
        num_data=len(labels),
    ).gradient_and_loss()


def usual_pass(model: nn.Module, images: Tensor, labels: Tensor, device: str) -> None:
    """Accumulate the gradients of all batches of a DataLoader."""
    model.zero_grad()
    # torch's default, except in a spawned process like this one, which would spawn its workers
    loader = DataLoader(
        TensorDataset(images, labels), 8, num_workers=2, multiprocessing_context="fork"
    )
    for x, y in loader:
        loss = cross_entropy(model(x.to(device)), y.to(device)) / len(loader)
        loss.backward()
    torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm().item()


def time_usual_pass(name: str, threads: int, device: str) -> float:
    """Return the seconds of ``usual_pass``, in the process that calls this."""
    torch.set_num_threads(threads)
    model, images, labels = make_model_and_data(name)
    return seconds(partial(usual_pass, model.to(device), images, labels, device))


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - start


def format_range(ratios: list[float]) -> str:
    """Format the median and the range."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def compare_times(name: str, options: argparse.Namespace, separate_process: Executor) -> None:
    """Time one model and print its ratios; the usual loop has contiguous images."""
    device = options.device
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    model, images, labels = make_model_and_data(name)
    model, images = (each.to(device, memory_format=memory_format) for each in (model, images))
    labels = labels.to(device)
    chunks = [chunk for chunk in CHUNKS if chunk <= len(labels)] * 3
    fastest, chunk = min(
        (seconds(partial(bare_passes, model, images, labels, c)), c) for c in chunks
    )
    calls: dict[str, Callable[[], object]] = {
        "full_gradient": lambda: full_gradient(model, images, labels, chunk=chunk),
        "bare": partial(bare_passes, model, images, labels, chunk),
        "curvlinops": partial(curvlinops_gradient, model, images, labels, chunk),
    }
    repetitions = math.ceil(MIN_SECONDS / fastest)
    times: dict[str, list[float]] = {key: [] for key in (*calls, "usual")}
    for _ in range(options.rounds):
        for key in calls:
            times[key].append(0.0)
        for _ in range(repetitions):  # alternating, so that other load affects all equally
            for key, call in calls.items():
                times[key][-1] += seconds(call) / repetitions
        usual = separate_process.submit(time_usual_pass, name, torch.get_num_threads(), device)
        times["usual"].append(usual.result())
        time.sleep(0.5)  # until its workers have exited
    speed_up = {
        key: [other / own for other, own in zip(values, times["full_gradient"], strict=True)]
        for key, values in times.items()
    }
    slow_down = [1 / value for value in speed_up["bare"]]
    print(
        f"{name}, n={len(labels)}, chunk {chunk}: {format_range(slow_down)} times as long as the "
        f"bare passes; {format_range(speed_up['curvlinops'])} times as fast as curvlinops, "
        f"{format_range(speed_up['usual'])} times as fast as the usual loop at batch size 8"
    )


def peak_memory(use_full_gradient: bool, examples: int) -> float:
    """Return the peak memory of a pass beyond the parameters, in copies of them (Linux)."""
    torch.set_num_threads(1)
    call = full_gradient if use_full_gradient else bare_passes
    images, labels = torch.randn(examples, 1, 32, 32), torch.zeros(examples, dtype=torch.int64)
    call(Mlp((1, 32, 32), 10, [8]), images, labels, chunk=8)  # loads libraries, which stay
    model = Mlp((1, 32, 32), 10, [4096, 4096])
    size = sum(p.nbytes for p in model.parameters())
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = resident_bytes("VmRSS")
    call(model, images, labels, chunk=8)
    return (resident_bytes("VmHWM") - before) / size


def resident_bytes(field: str) -> int:
    """Return the memory of this process: the current one (VmRSS) or the peak (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def compare_memory() -> None:
    """Print the peak memory of both kinds of pass."""
    for name, use_full_gradient in (("bare passes", False), ("full_gradient", True)):
        copies = []
        for examples in (32, 128):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                copies.append(fresh.submit(peak_memory, use_full_gradient, examples).result())
        print(
            f"{name}: peak memory of {copies[0]:.2f} copies of the parameters over 32 examples, "
            f"{copies[1]:.2f} over 128"
        )


def main() -> None:
    """Print the ratios of every selected model, then the memory."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    prepare_device(options.device, options.threads or torch.get_num_threads())
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as separate_process:
        for name in options.model:
            compare_times(name, options, separate_process)
    compare_memory()


if __name__ == "__main__":
    main()
