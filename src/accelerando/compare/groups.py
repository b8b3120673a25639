"""Runs of one scheduler with different seeds, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from accelerando.checks import UsageError
from accelerando.compare.load import Run, differing
from accelerando.plotting import CASES

SAME = ("dataset", "model", "optimizer", "epochs", "measure")
"""What runs must share to be compared: data, model, budget and yardstick."""
NOT_COMPARED = ("dataset.folder", "dataset.epochs", "dataset._target_", "model._target_")


class Spread(NamedTuple):
    """Mean and range over seeds."""

    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Args:
        name: the scheduler's name, with the settings that tell it from others of that name.
        runs: one for each seed.
    """

    name: str
    runs: tuple[Run, ...]

    @property
    def label(self) -> str:
        """What a figure calls it."""
        return CASES.get(self.name, self.name)

    @property
    def short(self) -> str:
        """What a table calls it: the case and the name."""
        case = CASES.get(self.name, "").split(" ")[0]
        return f"{case}\n{self.name}".strip()

    def last(self, column: str) -> Spread:
        """Value of ``column`` at the end of the runs."""
        return _spread([float(run.record[column].iloc[-1]) for run in self.runs])

    def lowest(self, column: str) -> Spread:
        """Minimum of ``column`` over the runs."""
        return _spread([float(run.record[column].min()) for run in self.runs])

    def curve(self, column: str, x: str, *, so_far: bool = False) -> Curve:
        """Mean and range of ``column`` over the seeds, along ``x``; ``so_far``: its minimum."""
        columns = []
        for run in self.runs:
            values = run.record.set_index(x)[column]
            columns.append(values.cummin() if so_far else values)
        # seeds measured at other places: each keeps its last value until its next
        table = pd.concat(columns, axis=1).sort_index().ffill()
        return Curve(
            table.index.to_numpy(dtype=np.float64),
            table.mean(axis=1).to_numpy(dtype=np.float64),
            table.min(axis=1).to_numpy(dtype=np.float64),
            table.max(axis=1).to_numpy(dtype=np.float64),
        )


class Curve(NamedTuple):
    """A mean line and a band, each of shape (points,)."""

    x: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    lowest: npt.NDArray[np.float64]
    highest: npt.NDArray[np.float64]


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.mean(values)), min(values), max(values))


def comparable(runs: Sequence[Run]) -> None:
    """Raise UsageError where runs differ in anything but scheduler and seed."""
    found = {k: v for k, v in differing(runs, SAME).items() if k not in NOT_COMPARED}
    if found:
        words = "; ".join(f"{name}: {', '.join(map(str, v))}" for name, v in found.items())
        # what a reader would choose by: a name where there is one
        name = min(found, key=lambda key: not key.endswith(".name"))
        folders = ", ".join(sorted({str(run.path.parents[1]) for run in runs}))
        raise UsageError(
            f"these runs differ in more than scheduler and seed ({words}): give one of the folders "
            f"{folders}, or choose with --where, for example --where {name}={found[name][0]}"
        )


def group(runs: Sequence[Run]) -> list[Group]:
    """Runs by scheduler, the paper's cases first; same name but other settings: other groups.

    Copies of one run, in several folders, count once.
    """
    by_name: dict[str, list[Run]] = {}
    for run in {run.state.run: run for run in runs}.values():
        by_name.setdefault(run.state.scheduler, []).append(run)
    order = [*CASES, *sorted(set(by_name) - set(CASES))]
    return [part for name in order if name in by_name for part in _split(name, by_name[name])]


def _split(name: str, runs: Sequence[Run]) -> list[Group]:
    settings = [key for key in differing(runs, ["scheduler"]) if not key.endswith("_target_")]
    targets = [key for key in differing(runs, ["scheduler"]) if key.endswith("_target_")]
    parts: dict[str, list[Run]] = {}
    for run in runs:
        words = [str(run.config.get(key)).rpartition(".")[2] for key in targets]
        words += [
            f"{key.removeprefix('scheduler.')}={run.config[key]}"
            for key in settings
            if run.config.get(key) is not None
        ]
        parts.setdefault(" ".join([name, *words]), []).append(run)
    return [Group(label, tuple(members)) for label, members in sorted(parts.items())]
