"""Accelerando's loop against the loop that most research code has, in turn, in one run.

That loop: torch.optim.SGD, a DataLoader with two workers made anew every epoch, torchvision's
transforms of PIL images where the data are augmented, ``.item()`` after every step, and the full
gradient of the training set as published code measures it, through one more such loader at the
current batch size. Both train the same model from the same weights on the same data for as many
steps with as many threads, measure after every epoch, and evaluate on the test set 512 examples at
a time; the measurement is in float32. Where nothing is augmented that loop is given its images
normalised. Neither importing, reading data nor making the model is timed; Accelerando's record and
checkpoint are.

Prints steps per second, measurements included, and how many times as fast, by the clock and by
processor time (that of workers included), as the usual loop in the first precision: the median over
the rounds, and their range. Each loop lives in a process of its own, so that none profits from what
another sets for its process.

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
from cases import CIFAR, RATE, Case, machine, model_and_data, task_of, train, wait
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

from accelerando.data.in_memory import InMemoryDataset
from accelerando.measure.chunks import DEFAULT_CHUNK

RESNET = ("model=resnet18", *CIFAR)
CASES = {
    "mlp": Case(("model=mlp", "dataset=digits"), batch=8, examples=1437, epochs=2),
    "cnn": Case(("model=cnn", "dataset=fashion_mnist"), batch=8, examples=6000),
    "resnet18-8": Case(RESNET, batch=8, examples=128),
    "resnet18-128": Case(RESNET, batch=128, examples=512),
    "resnet18-1024": Case(RESNET, batch=1024, examples=1024),
}
QUICK = ["mlp", "cnn", "resnet18-8"]


class Pictures(Dataset[tuple[Any, int]]):
    """Images in memory, each made a PIL image and transformed when asked for: as torchvision's."""

    def __init__(self, data: InMemoryDataset, transform: Callable[[Any], Any]) -> None:
        self.images = np.ascontiguousarray(data.images.permute(0, 2, 3, 1).numpy())
        self.labels, self.transform = data.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def datasets(data: tuple[InMemoryDataset, InMemoryDataset]) -> tuple[Dataset[Any], Dataset[Any]]:
    """The training and the test set as research code has them."""
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
        Pictures(training, transforms.Compose(augmented + to_tensor)),
        Pictures(test, transforms.Compose(to_tensor)),
    )


class Usual:
    """The loop of most research code."""

    def __init__(
        self,
        model: nn.Module,
        data: tuple[InMemoryDataset, InMemoryDataset],
        workers: int,
        device: str,
    ) -> None:
        self.model, self.device = model.to(device), device
        self.train_set, self.test_set = datasets(data)
        # as torch starts them by itself: a process that was spawned would spawn its workers
        self.loader = partial(DataLoader, num_workers=workers, multiprocessing_context="fork")

    def train(self, batch: int, epochs: int, precision: str) -> None:
        optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE)
        losses = []
        for _ in range(epochs):
            self.model.train()
            for images, labels in self.loader(self.train_set, batch, shuffle=True):
                optimizer.zero_grad()
                with arithmetic(precision, self.device):
                    loss = cross_entropy(*self.scores(images, labels))
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            self.gradient_norm(batch)
            self.evaluate()

    def scores(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of a batch, which is moved to the device, and its labels there."""
        return self.model(images.to(self.device)), labels.to(self.device)

    def gradient_norm(self, batch: int) -> float:
        """In training mode at the current batch size; every batch counts as much."""
        self.model.zero_grad()
        loader = self.loader(self.train_set, batch, shuffle=True)
        for images, labels in loader:
            cross_entropy(*self.scores(images, labels)).backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients).item() / len(loader)

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        self.model.eval()
        loss, right, count = 0.0, 0, 0
        for images, labels in self.loader(self.test_set, DEFAULT_CHUNK):
            scores, labels = self.scores(images, labels)
            loss += cross_entropy(scores, labels, reduction="sum").item()
            right += (scores.argmax(1) == labels).sum().item()
            count += len(labels)
        return loss / count, right / count


def arithmetic(precision: str, device: str) -> AbstractContextManager[Any]:
    """What a step's forward pass is computed in."""
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()


class Cost(NamedTuple):
    """Of one round, in seconds."""

    clock: float
    processor: float


def cost(call: Callable[[], object]) -> Cost:
    """What a call takes, child processes that have ended included."""
    time.sleep(0.5)  # workers of the call before take a moment to leave
    before, begin = os.times(), time.perf_counter()
    call()
    wait()
    clock, after = time.perf_counter() - begin, os.times()
    return Cost(clock, sum(after[:4]) - sum(before[:4]))


@dataclass(frozen=True)
class Contender:
    """One of the two loops, in one of its forms.

    Args:
        ours: Accelerando's; else the usual one.
        case: what is trained.
        threads: of the loop's own process.
        workers: of the usual loop's loaders.
        device: of the model.
        precision: of the steps.
        order: of images in memory; the usual loop's are contiguous.
    """

    ours: bool
    case: Case
    threads: int
    workers: int
    device: str
    precision: str
    order: str = "contiguous"

    def __str__(self) -> str:
        name = f"accelerando, {self.order}" if self.ours else "usual loop"
        return f"{name}, {self.precision}"

    def round(self) -> Cost:
        """Train once, from the initial weights."""
        warnings.simplefilter("ignore")
        torch.set_num_threads(self.threads)
        precision, order = f"precision={self.precision}", self.order == "channels_last"
        words = [f"hardware.{name}={getattr(self, name)}" for name in ("threads", "device")]
        words += [precision, f"hardware.channels_last={order}"]
        if self.ours:
            task = task_of(self.case, *words)
            return cost(lambda: train(task))
        model, data = model_and_data(self.case)
        loop = Usual(model, data, self.workers, self.device)
        return cost(lambda: loop.train(self.case.batch, self.case.epochs, self.precision))


def contenders(case: Case, options: argparse.Namespace) -> list[Contender]:
    """All that are timed; the others are held to the first."""
    told = {name: getattr(options, name) for name in ("threads", "workers", "device")}
    made = partial(Contender, case=case, **told)
    usual = [made(ours=False, precision=precision) for precision in options.precision]
    forms = itertools.product(options.precision, options.order)
    return usual + [made(ours=True, precision=name, order=order) for name, order in forms]


def compare(name: str, case: Case, options: argparse.Namespace) -> None:
    """Time all contenders in turn and print the ratios."""
    costs: dict[Contender, list[Cost]] = {key: [] for key in contenders(case, options)}
    with ExitStack() as stack:
        context = multiprocessing.get_context("spawn")
        homes = {key: stack.enter_context(ProcessPoolExecutor(1, context)) for key in costs}
        for _ in range(options.rounds):
            for key, home in homes.items():
                costs[key].append(home.submit(key.round).result())
    steps = task_of(case).plan.total_steps
    print(f"{name}: b={case.batch}, n={case.examples}, {steps} steps, {case.epochs} epochs")
    first = costs[next(iter(costs))]
    for key, found in costs.items():
        speed = steps / statistics.median(c.clock for c in found)
        by_clock, by_processor = (
            spread([a[kind] / b[kind] for a, b in zip(first, found, strict=True)])
            for kind in (0, 1)
        )
        ratios = "" if found is first else f"; {by_clock} by the clock, {by_processor} by processor"
        print(f"  {key}: {speed:,.3g} steps/s{ratios}", flush=True)


def spread(ratios: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Print the ratios of every case asked for."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=QUICK)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of either loop's own process")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32"])
    orders = ("contiguous", "channels_last")
    parser.add_argument("--order", nargs="+", choices=orders, default=["contiguous"])
    parser.add_argument("--workers", type=int, default=2, help="of the usual loop's loaders")
    parser.add_argument("--examples", type=int, help="instead of the case's own number")
    options = parser.parse_args()
    print(f"{machine()}; {options.threads} threads, {options.workers} workers")
    for name in options.case:
        case = CASES[name]
        compare(name, replace(case, examples=options.examples or case.examples), options)


if __name__ == "__main__":
    main()
