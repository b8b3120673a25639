"""Models, data and helpers shared by the training benchmarks."""

from __future__ import annotations

import platform
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from accelerando.build import bind, build_plan
from accelerando.composition import compose_runs
from accelerando.data.in_memory import InMemoryDataset
from accelerando.distributed import SINGLE_PROCESS
from accelerando.interruption import SignalHandler
from accelerando.runs.folder import RunFolder, State, Status
from accelerando.runs.record import Recorder
from accelerando.schedule import Progress
from accelerando.training.loop import Loop
from accelerando.training.measurement import Measurement
from accelerando.training.task import Task, make_data, prepare_task, seeded_model

LEARNING_RATE = 0.01

CIFAR = (
    "dataset=synthetic",
    "dataset.shape=[3,32,32]",
    "dataset.classes=100",
    "dataset.augmentation={_target_: accelerando.data.augmentation.Augmentation,"
    " crop: 4, flip: true, rotation: 15}",
)
"""Random pixels in the format of CIFAR-100, augmented as in the paper."""


@dataclass(frozen=True)
class Case:
    """A model and a data set at a fixed batch size.

    Args:
        overrides: command-line overrides for ``train.py``.
        batch_size: examples per batch.
        examples: size of the training set, truncated; the test set has a sixth of it.
        epochs: epochs per round of the benchmark.
    """

    overrides: tuple[str, ...]
    batch_size: int
    examples: int
    epochs: int = 1


class AfterEpochs(Measurement):
    """The measurements of a run, except the one before its first step."""

    def due(self, position: Progress) -> bool:
        return position.step > 0 and super().due(position)


class Never(Measurement):
    """No measurements."""

    def due(self, position: Progress) -> bool:
        return False


def make_task(case: Case, *overrides: str, measurement: type[Measurement] = AfterEpochs) -> Task:
    """Prepare a run of ``case``, with further command-line overrides."""
    (config,) = compose_runs(
        [
            *case.overrides,
            "scheduler=decay_constant",
            f"scheduler.batch_size.initial={case.batch_size}",
            "scheduler/learning_rate=constant",
            f"scheduler.learning_rate.initial={LEARNING_RATE}",
            f"epochs={case.epochs}",
            *overrides,
        ]
    )
    task = prepare_task(config, build_plan(config))
    train, test = task.data
    data = _truncate(train, case.examples), _truncate(test, case.examples // 6)
    plan = bind(config.scheduler.target, examples=len(data[0]), epochs=config.epochs)
    return replace(
        task, plan=plan, data=data, measurement=measurement(config.measure, plan, data, 0)
    )


def model_and_data(case: Case) -> tuple[nn.Module, tuple[InMemoryDataset, InMemoryDataset]]:
    """Return the same model and data without configuring torch, for another training loop."""
    (config,) = compose_runs([*case.overrides])
    data = make_data(config, torch.device("cpu"))
    train, test = _truncate(data[0], case.examples), _truncate(data[1], case.examples // 6)
    return seeded_model(config), (train, test)


def _truncate(data: InMemoryDataset, count: int) -> InMemoryDataset:
    return replace(data, images=data.images[:count], labels=data.labels[:count])


def train(task: Task, stop: SignalHandler | None = None) -> None:
    """Train a complete run with Accelerando's loop, including its record and checkpoint.

    Args:
        task: the run.
        stop: its ``check_interrupt`` is called after each step.
    """
    plan = task.plan
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(Path(path))
        state = State(Status.RUNNING, "", "", "", "", 0, plan.epochs, plan.total_steps)
        with folder.locked(print) as lock, closing(Recorder(folder, lock, state)) as recorder:
            Loop(task, SINGLE_PROCESS, folder, recorder, None, stop or SignalHandler()).run()


def synchronize() -> None:
    """Wait until the GPU, if one is used, has finished all work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def describe_machine() -> str:
    """Describe processor and torch in one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        info = dict((part.strip() for part in line.split(":", 1)) for line in lines if ":" in line)
    except OSError:
        info = {}
    flags = info.get("flags", "").split()
    bf16 = [name for name in ("amx_bf16", "avx512_bf16") if name in flags]
    return (
        f"{info.get('model name', platform.processor())}, family {info.get('cpu family', '?')}, "
        f"{torch.backends.cpu.get_cpu_capability()}, "
        f"bf16 instructions: {' and '.join(bf16) or 'none'}, torch {torch.__version__}"
    )
