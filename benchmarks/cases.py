"""What the benchmarks of training train: runs as ``train.py`` makes them, on data of a fit size."""

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
from accelerando.training.measurement import Measurement
from accelerando.training.task import Task, make_data, prepare_task, seeded_model

RATE = 0.01

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
    """A model on data at one batch size.

    Args:
        words: what ``train.py`` would be told.
        batch: examples per batch.
        examples: the first so many of the training set; a sixth as many of the test set.
        epochs: trained in a round.
    """

    words: tuple[str, ...]
    batch: int
    examples: int
    epochs: int = 1


class AfterEpochs(Measurement):
    """What a run measures, but for the measurement before its first step."""

    def due(self, position: Progress) -> bool:
        return position.step > 0 and super().due(position)


class Never(Measurement):
    """No measurement at all."""

    def due(self, position: Progress) -> bool:
        return False


def task_of(case: Case, *words: str, measured: type[Measurement] = AfterEpochs) -> Task:
    """All that a run of ``case`` needs; ``words`` are more settings, as for ``train.py``."""
    (config,) = compose_runs(
        [
            *case.words,
            "scheduler=decay_constant",
            f"scheduler.batch_size.initial={case.batch}",
            "scheduler/learning_rate=constant",
            f"scheduler.learning_rate.initial={RATE}",
            f"epochs={case.epochs}",
            *words,
        ]
    )
    task = prepare_task(config, build_plan(config))
    train, test = task.data
    data = _first(train, case.examples), _first(test, case.examples // 6)
    plan = bind(config.scheduler.target, examples=len(data[0]), epochs=config.epochs)
    return replace(task, plan=plan, data=data, measurement=measured(config.measure, plan, data, 0))


def model_and_data(case: Case) -> tuple[nn.Module, tuple[InMemoryDataset, InMemoryDataset]]:
    """The same for another loop, in a process that is left as torch makes it."""
    (config,) = compose_runs([*case.words])
    data = make_data(config, torch.device("cpu"))
    train, test = _first(data[0], case.examples), _first(data[1], case.examples // 6)
    return seeded_model(config), (train, test)


def _first(data: InMemoryDataset, count: int) -> InMemoryDataset:
    return replace(data, images=data.images[:count], labels=data.labels[:count])


def train(task: Task, stop: SignalHandler | None = None) -> None:
    """The product's loop over a whole run, which writes its record and its checkpoint.

    Args:
        task: the run.
        stop: its ``check_interrupt`` is called after every step.
    """
    plan = task.plan
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(Path(path))
        state = State(Status.RUNNING, "", "", "", "", 0, plan.epochs, plan.total_steps)
        with folder.locked(print) as lock, closing(Recorder(folder, lock, state)) as recorder:
            task.loop(SINGLE_PROCESS, folder, recorder, None, stop or SignalHandler()).run()


def wait() -> None:
    """Until a GPU, where one is used, has computed all that it was asked for."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def machine() -> str:
    """A line on what computes: timings mean little without it."""
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
        f"bf16 by {' and '.join(bf16) or 'no instructions of its own'}, torch {torch.__version__}"
    )
