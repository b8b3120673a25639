"""The speed of Accelerando's training loop relative to the loop of most research code.

The usual loop consists of torch.optim.SGD, a DataLoader whose two workers restart every epoch,
torchvision transforms of PIL images if the data are augmented, ``.item()`` after every step, and
the full gradient norm as published code measures it, through another such DataLoader at the
current batch size. Both loops train the same model from the same weights on the same data with the
same number of steps and threads, measure after every epoch in float32, and evaluate the test set in
batches of 512. Without augmentation the usual loop receives normalised images. Imports, loading
the data and constructing the model are not timed; Accelerando's record and checkpoint are.

Prints steps per second, including measurements, and the speed-up over the usual loop in the first
precision, in wall-clock time and in CPU time (including workers), as the median over the rounds
and the range. The loops are timed in turn, each in its own process, so that neither benefits from
the other's settings.

    python benchmarks/research_loop.py [--case mlp cnn resnet18-8 resnet18-128 resnet18-1024]
        [--rounds 5] [--threads 1] [--precision fp32 bf16] [--order contiguous channels_last]
        [--workers 2] [--device cpu]
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from cases import (
    CIFAR,
    LEARNING_RATE,
    Case,
    describe_machine,
    make_task,
    model_and_data,
    synchronize,
    train,
)
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

from accelerando.data.in_memory import InMemoryDataset
from accelerando.measure.chunks import DEFAULT_CHUNK

RESNET = ("model=resnet18", *CIFAR)
CASES = {
    "mlp": Case(("model=mlp", "dataset=digits"), batch_size=8, examples=1437, epochs=2),
    "cnn": Case(("model=cnn", "dataset=fashion_mnist"), batch_size=8, examples=6000),
    "resnet18-8": Case(RESNET, batch_size=8, examples=128),
    "resnet18-128": Case(RESNET, batch_size=128, examples=512),
    "resnet18-1024": Case(RESNET, batch_size=1024, examples=1024),
}
QUICK = ["mlp", "cnn", "resnet18-8"]


class PilImages(Dataset[tuple[Any, int]]):
    """Images in memory that become PIL images and are transformed when read, as in torchvision."""

    def __init__(self, data: InMemoryDataset, transform: Callable[[Any], Any]) -> None:
        self.images = np.ascontiguousarray(data.images.permute(0, 2, 3, 1).numpy())
        self.labels, self.transform = data.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def datasets(data: tuple[InMemoryDataset, InMemoryDataset]) -> tuple[Dataset[Any], Dataset[Any]]:
    """Return the training and the test set in the form that research code uses."""
    training, test = data
    if training.augmentation is None:
        pairs = [TensorDataset(part.normalised(part.images), part.labels) for part in data]
        return pairs[0], pairs[1]
    mean, std = ((values.flatten() / 255).tolist() for values in (training.mean, training.std))
    to_tensor = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    augmented = [
        transforms.RandomCrop(training.images.shape[-1], padding=training.augmentation.crop),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(training.augmentation.rotation),
    ]
    return (
        PilImages(training, transforms.Compose(augmented + to_tensor)),
        PilImages(test, transforms.Compose(to_tensor)),
    )


class UsualLoop:
    """The training loop of most research code."""

    def __init__(
        self,
        model: nn.Module,
        data: tuple[InMemoryDataset, InMemoryDataset],
        workers: int,
        device: str,
    ) -> None:
        self.model, self.device = model.to(device), device
        self.train_set, self.test_set = datasets(data)
        # torch's default, except in a spawned process like this one, which would spawn its workers
        self.loader = partial(DataLoader, num_workers=workers, multiprocessing_context="fork")

    def train(self, batch_size: int, epochs: int, precision: str) -> None:
        optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)
        losses = []
        for _ in range(epochs):
            self.model.train()
            for images, labels in self.loader(self.train_set, batch_size, shuffle=True):
                optimizer.zero_grad()
                with autocast(precision, self.device):
                    loss = cross_entropy(*self.scores(images, labels))
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            self.gradient_norm(batch_size)
            self.evaluate()

    def scores(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the model's scores and the labels, on the device."""
        return self.model(images.to(self.device)), labels.to(self.device)

    def gradient_norm(self, batch_size: int) -> float:
        """Return the norm of the mean of the batches' gradients, in training mode."""
        self.model.zero_grad()
        loader = self.loader(self.train_set, batch_size, shuffle=True)
        for images, labels in loader:
            cross_entropy(*self.scores(images, labels)).backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients).item() / len(loader)

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        self.model.eval()
        loss, correct, count = 0.0, 0, 0
        for images, labels in self.loader(self.test_set, DEFAULT_CHUNK):
            scores, labels = self.scores(images, labels)
            loss += cross_entropy(scores, labels, reduction="sum").item()
            correct += (scores.argmax(1) == labels).sum().item()
            count += len(labels)
        return loss / count, correct / count


def autocast(precision: str, device: str) -> AbstractContextManager[Any]:
    """Return the context manager for the forward pass of a step."""
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()


class Cost(NamedTuple):
    """Seconds of one round."""

    wall: float
    cpu: float


def cost(call: Callable[[], object]) -> Cost:
    """Return the cost of a call, including its child processes."""
    time.sleep(0.5)  # until the workers of the previous call have exited
    before, start = os.times(), time.perf_counter()
    call()
    synchronize()
    wall, after = time.perf_counter() - start, os.times()
    return Cost(wall, sum(after[:4]) - sum(before[:4]))


@dataclass(frozen=True)
class Contender:
    """One of the two loops in one configuration.

    Args:
        accelerando: whether this is Accelerando's loop.
        case: the model and data.
        threads: threads of the loop's process.
        workers: workers of the usual loop's DataLoaders.
        device: device of the model.
        precision: precision of the steps.
        memory_format: of the images; contiguous in the usual loop.
    """

    accelerando: bool
    case: Case
    threads: int
    workers: int
    device: str
    precision: str
    memory_format: str = "contiguous"

    def __str__(self) -> str:
        name = f"Accelerando, {self.memory_format}" if self.accelerando else "usual loop"
        return f"{name}, {self.precision}"

    def round(self) -> Cost:
        """Train once from the initial weights."""
        warnings.simplefilter("ignore")
        torch.set_num_threads(self.threads)
        if self.accelerando:
            task = make_task(
                self.case,
                f"hardware.threads={self.threads}",
                f"hardware.device={self.device}",
                f"hardware.channels_last={self.memory_format == 'channels_last'}",
                f"precision={self.precision}",
            )
            return cost(lambda: train(task))
        model, data = model_and_data(self.case)
        loop = UsualLoop(model, data, self.workers, self.device)
        return cost(lambda: loop.train(self.case.batch_size, self.case.epochs, self.precision))


def contenders(case: Case, options: argparse.Namespace) -> list[Contender]:
    """Return all configurations to time; the first one is the reference."""
    common = {name: getattr(options, name) for name in ("threads", "workers", "device")}
    contender = partial(Contender, case=case, **common)
    usual = [contender(accelerando=False, precision=precision) for precision in options.precision]
    return usual + [
        contender(accelerando=True, precision=precision, memory_format=memory_format)
        for precision, memory_format in itertools.product(options.precision, options.order)
    ]


def compare(name: str, case: Case, options: argparse.Namespace) -> None:
    """Time all contenders in turn and print the ratios."""
    costs: dict[Contender, list[Cost]] = {contender: [] for contender in contenders(case, options)}
    with ExitStack() as stack:
        context = multiprocessing.get_context("spawn")
        pools = {c: stack.enter_context(ProcessPoolExecutor(1, context)) for c in costs}
        for _ in range(options.rounds):
            for contender, pool in pools.items():
                costs[contender].append(pool.submit(contender.round).result())
    steps = make_task(case).plan.total_steps
    print(
        f"{name}: batch size {case.batch_size}, n={case.examples}, {steps} steps, "
        f"{case.epochs} epochs"
    )
    reference = costs[next(iter(costs))]
    for contender, rounds in costs.items():
        speed = steps / statistics.median(c.wall for c in rounds)
        line = f"  {contender}: {speed:,.3g} steps/s"
        if rounds is not reference:
            pairs = list(zip(reference, rounds, strict=True))
            wall = format_range([a.wall / b.wall for a, b in pairs])
            cpu = format_range([a.cpu / b.cpu for a, b in pairs])
            line += f"; speed-up {wall} in wall-clock time, {cpu} in CPU time"
        print(line, flush=True)


def format_range(ratios: list[float]) -> str:
    """Format the median and the range."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Print the ratios of every selected case."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=QUICK)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="threads of each loop's process")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32"])
    formats = ("contiguous", "channels_last")
    parser.add_argument("--order", nargs="+", choices=formats, default=["contiguous"])
    parser.add_argument(
        "--workers", type=int, default=2, help="workers of the usual loop's DataLoaders"
    )
    parser.add_argument("--examples", type=int, help="size of the training set; default: by case")
    options = parser.parse_args()
    print(f"{describe_machine()}; {options.threads} threads, {options.workers} workers")
    for name in options.case:
        case = CASES[name]
        compare(name, replace(case, examples=options.examples or case.examples), options)


if __name__ == "__main__":
    main()
