"""The full-gradient pass against the bare passes it is made of, curvlinops, and the usual loop.

All on the same model and data, timed in turn in one run, with torch's default threads or --threads:

- bare: forward and backward over the same chunks, nothing else, at the best of several chunk sizes
- curvlinops: its gradient over the same chunks
- usual: what research code does: a DataLoader at batch size 8, ``backward`` into ``grad``

It prints the pass's time as a share of the first, and as a speed-up over the others; then the peak
memory of a pass over n and over 4 n examples.

    python benchmarks/full_gradient.py [--model mlp cnn resnet18] [--rounds 3] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from curvlinops import HessianLinearOperator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from accelerando.measure import full_gradient
from accelerando.models import Cnn, Mlp

CHUNKS = (64, 128, 256, 512)


def cifar_resnet18() -> nn.Module:
    """ResNet-18 in its CIFAR form: 3 x 3 stem, no max-pool."""
    model = resnet18(num_classes=100)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()  # type: ignore[assignment]
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "mlp": (lambda: Mlp((1, 8, 8), 10, [128, 128]), (1, 8, 8), 20_000),
    "cnn": (lambda: Cnn((1, 28, 28), 10, [16, 32]), (1, 28, 28), 4096),
    "resnet18": (cifar_resnet18, (3, 32, 32), 256),
}


def bare(model: nn.Module, images: Tensor, labels: Tensor, chunk: int) -> None:
    """Forward and backward, nothing else."""
    parameters = list(model.parameters())
    for x, y in zip(images.split(chunk), labels.split(chunk), strict=True):
        torch.autograd.grad(cross_entropy(model(x), y), parameters)


def usual(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """The loop of research code at the schedule's first batch size."""
    model.zero_grad()
    loader = DataLoader(TensorDataset(images, labels), batch_size=8, num_workers=2)
    for x, y in loader:
        (cross_entropy(model(x), y) / len(loader)).backward()
    torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm().item()


def curvlinops(model: nn.Module, images: Tensor, labels: Tensor, chunk: int) -> None:
    """The gradient of another library over the same chunks."""
    data = list(zip(images.split(chunk), labels.split(chunk), strict=True))
    HessianLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        list(model.parameters()),
        data,
        check_deterministic=False,
        num_data=len(labels),
    ).gradient_and_loss()


def seconds(call: Callable[..., object], *arguments: object) -> float:
    """Time that a call takes."""
    begin = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begin


def peak_mib(call: Callable[[], object]) -> float:
    """Peak memory of this process during a call, in MiB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    call()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(name: str, rounds: int) -> None:
    """Time one model and print its ratios."""
    make, shape, examples = MODELS[name]
    model = make().train()
    images, labels = torch.randn(examples, *shape), torch.randint(0, 10, (examples,))
    chunks = [chunk for chunk in CHUNKS if chunk <= examples]
    best = min(chunks, key=lambda chunk: seconds(bare, model, images, labels, chunk))

    def ours() -> object:
        return full_gradient(model, images, labels, chunk=best)

    calls: dict[str, Callable[[], object]] = {
        "ours": ours,
        "bare": lambda: bare(model, images, labels, best),
        "curvlinops": lambda: curvlinops(model, images, labels, best),
        "usual": lambda: usual(model, images, labels),
    }
    times: dict[str, list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            time.sleep(0.5)  # the usual loop's workers take a moment to leave
            times[key].append(seconds(call))
    ours_time = statistics.median(times["ours"])
    ratio = {key: statistics.median(values) / ours_time for key, values in times.items()}
    print(
        f"{name}, n={examples}, chunk {best}: {1 / ratio['bare']:.2f} times the bare passes; "
        f"{ratio['curvlinops']:.2f} times as fast as curvlinops, "
        f"{ratio['usual']:.2f} times as fast as the usual loop at b=8"
    )
    more = images.repeat(4, 1, 1, 1), labels.repeat(4)
    small = peak_mib(ours)
    large = peak_mib(lambda: full_gradient(model, *more, chunk=best))
    print(f"  peak memory {small:.0f} MiB over n, {large:.0f} MiB over 4 n examples")


def main() -> None:
    """Print the ratios of every model asked for."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    for name in options.model:
        measure(name, options.rounds)


if __name__ == "__main__":
    main()
