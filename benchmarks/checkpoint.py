"""What checkpoints cost: the time of one, as a share of the time between two.

The default cadence is ``checkpoint.seconds`` in conf/config.yaml; the state is that of a run with
momentum, so that it holds the weights twice.

    python benchmarks/checkpoint.py [--rounds 5] [--folder DIR]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from accelerando.config import CheckpointSettings as Settings
from accelerando.models import Cnn, Mlp, ResNet
from accelerando.runs.folder import RunFolder
from accelerando.schedule import Progress
from accelerando.training.checkpoint import Checkpoint, random_states


def checkpoint(model: nn.Module) -> Checkpoint:
    """That of a run in its middle."""
    return Checkpoint(
        position=Progress(3, 64, 1000),
        measured=900,
        lowest=0.1,
        seconds=100.0,
        lengths=(0, 0),
        window=(torch.zeros(()), 0),
        model=model.state_dict(),
        velocity=[p.detach().clone() for p in model.parameters()],
        random=random_states(torch.device("cpu")),
    )


def main() -> None:
    """Print the cost for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to try; default: a temporary one")
    options = parser.parse_args()
    models = {
        "digits mlp": Mlp((1, 8, 8), 10, [128, 128]),
        "digits cnn": Cnn((1, 8, 8), 10, [16, 32]),
        "resnet18": ResNet((3, 32, 32), 100, [2, 2, 2, 2]),
    }
    for name, model in models.items():
        times = []
        with tempfile.TemporaryDirectory(dir=options.folder) as path:
            folder = RunFolder(Path(path))
            with folder.locked(print) as lock:
                for _ in range(options.rounds):
                    begin = time.perf_counter()
                    checkpoint(model).save(folder, lock)
                    times.append(time.perf_counter() - begin)
            size = folder.checkpoint.stat().st_size / 1e6
        seconds = statistics.median(times)
        print(
            f"{name}: {size:.1f} MB in {seconds:.3f} s ({min(times):.3f} to {max(times):.3f}), "
            f"{seconds / Settings.seconds:.2%} of the {Settings.seconds:.0f} s between two"
        )


if __name__ == "__main__":
    main()
