"""Accelerando's loop against the loop that most research code has, in turn, in one run.

That loop: a DataLoader with two workers, made anew every epoch, ``.item()`` after every step, and
the full gradient measured through another such loader. Both train the same model on digits at
batch size 8 and measure after every epoch. Prints the steps per second of both, and their ratio.

    python benchmarks/research_loop.py [--rounds 5] [--epochs 2]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from accelerando.config import Measure
from accelerando.data.digits import Digits
from accelerando.data.images import Images, on_device
from accelerando.interruption import Interruption
from accelerando.models import Cnn, Mlp
from accelerando.schedule import Constant, ConstantBatch, Plan, Scheduler
from accelerando.tracking.folder import RUNNING, RunFolder, State
from accelerando.tracking.recorder import Recorder
from accelerando.training.loop import Loop
from accelerando.training.measurement import Measurement
from accelerando.training.step import SgdStep

BATCH, RATE = 8, 0.05
MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: Mlp((1, 8, 8), 10, [128, 128]),
    "cnn": lambda: Cnn((1, 8, 8), 10, [16, 32]),
}


def research(model: nn.Module, data: tuple[Images, Images], epochs: int) -> None:
    """The loop of most research code."""
    train, test = (TensorDataset(part.normalised(part.images), part.labels) for part in data)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    losses = []
    for _ in range(epochs):
        model.train()
        for images, labels in DataLoader(train, BATCH, shuffle=True, num_workers=2):
            optimizer.zero_grad()
            loss = cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        optimizer.zero_grad()
        loader = DataLoader(train, BATCH, num_workers=2)
        for images, labels in loader:
            (cross_entropy(model(images), labels) / len(loader)).backward()
        torch.cat(
            [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        ).norm().item()
        model.eval()
        with torch.no_grad():
            for images, labels in DataLoader(test, BATCH, num_workers=2):
                cross_entropy(model(images), labels).item()


def accelerando(model: nn.Module, data: tuple[Images, Images], plan: Plan, path: Path) -> None:
    """The product's loop, writing its record and checkpoint."""
    folder = RunFolder(path)
    state = State(RUNNING, "", "digits", "", "", 0, plan.epochs, plan.total_steps)
    recorder = Recorder(folder, state, (0, 0))
    Loop(
        plan=plan,
        model=model,
        step=SgdStep(model, momentum=0, nesterov=False, weight_decay=0),
        train=data[0],
        seed=0,
        measurement=Measurement(OmegaConf.structured(Measure), plan, data, 0),
        every=50,
        save_seconds=60,
        folder=folder,
        recorder=recorder,
        start=None,
        stop=Interruption(),
    ).run()
    recorder.close()


def timed(call: Callable[..., None], *arguments: object) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begin


def main() -> None:
    """Time both loops in turn and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = on_device(Digits(examples=1437, shape=(1, 8, 8), classes=10).load(), torch.device("cpu"))
    scheduler = Scheduler(
        batch_size=ConstantBatch(initial=BATCH), learning_rate=Constant(initial=RATE)
    )
    plan = scheduler.bind(examples=1437, epochs=options.epochs)
    for name, make in MODELS.items():
        theirs, ours = [], []
        for _ in range(options.rounds):
            theirs.append(timed(research, make(), data, options.epochs))
            with tempfile.TemporaryDirectory() as path:
                ours.append(timed(accelerando, make(), data, plan, Path(path)))
        ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
        slow, fast = (plan.total_steps / statistics.median(t) for t in (theirs, ours))
        print(
            f"{name} b={BATCH}: usual loop {slow:,.0f} steps/s, accelerando {fast:,.0f} steps/s, "
            f"{statistics.median(ratios):.1f} times ({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
