"""The cost of checkpoints: the time to save one as a share of the interval between two.

The interval is the default of ``checkpoint.seconds``. The checkpoint is that of a run with
momentum, so it contains the weights twice.

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

from accelerando.config import CheckpointSettings
from accelerando.models import Cnn, Mlp, ResNet
from accelerando.runs.folder import RunFolder
from accelerando.schedule import Progress
from accelerando.training.checkpoint import Checkpoint, random_states


def make_checkpoint(model: nn.Module) -> Checkpoint:
    """Return a checkpoint from the middle of a run."""
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
    parser.add_argument("--folder", type=Path, help="folder to save to; default: a temporary one")
    options = parser.parse_args()
    interval = CheckpointSettings.seconds
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
                    start = time.perf_counter()
                    make_checkpoint(model).save(folder, lock)
                    times.append(time.perf_counter() - start)
            size = folder.checkpoint.stat().st_size / 1e6
        seconds = statistics.median(times)
        print(
            f"{name}: {size:.1f} MB in {seconds:.3f} s ({min(times):.3f} to {max(times):.3f}), "
            f"{seconds / interval:.2%} of the {interval:.0f} s between two checkpoints"
        )


if __name__ == "__main__":
    main()
