"""Read runs from their folders: settings, what became of them, and the record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from accelerando.checks import UsageError
from accelerando.packaged_schedulers import flatten
from accelerando.runs.folder import RECORD_FILE, STATE_FILE, RunFolder, State, Status
from accelerando.runs.listing import run_folders, run_status
from accelerando.scheduler_names import is_display

# libyaml's where there is one: ten times as quick
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NEEDED = ("epoch", "step", "examples", "seconds")
_KINDS: dict[str, type | tuple[type, ...]] = {
    "seed": int, "epochs": int, "steps": int, "epoch": int, "seconds": (int, float),
    "message": str, "overrides": list, "environment": dict, "wandb": dict,
}  # fmt: skip
"""What a comparison reads of ``state.json``."""

Record = dict[str, npt.NDArray[np.float64]]


class Damaged(Exception):
    """The files of a run cannot be what the run wrote."""


@dataclass(frozen=True)
class Run:
    """One run as its files tell it.

    Args:
        path: its folder.
        status: what became of it; ``lost`` where its process is gone without a word.
        state: the position it got to, and the rest of ``state.json``.
        config: its settings, each under its full name: ``scheduler.batch_size.initial``.
    """

    path: Path
    status: str
    state: State
    config: dict[str, Any]

    @cached_property
    def record(self) -> Record:
        """What was measured, a column of numbers for each thing, a place for each measurement.

        Raises:
            Damaged: a row is no JSON, misses its position, is out of order, or has a norm below 0.
        """
        path = RunFolder(self.path).record
        try:
            lines = path.read_text().splitlines()
            rows = json.loads(f"[{','.join(lines)}]")  # all at once is twice as quick
            record = _columns(rows)
        except (ValueError, TypeError, AttributeError, OSError) as error:
            raise Damaged(f"{path.name}: {_reason(error)}") from error
        missing = [name for name in _NEEDED if np.isnan(record.get(name, np.nan)).any()]
        if missing:
            raise Damaged(f"{path.name}: {' and '.join(missing)} missing")
        wrong = _impossible(record)
        if wrong:
            raise Damaged(f"{path.name}: {wrong}")
        return record


class DamagedRun(NamedTuple):
    """A run that cannot be read, and why."""

    path: Path
    reason: str


class Found(NamedTuple):
    """What there is at or below some folders."""

    runs: list[Run]
    broken: list[DamagedRun]


def load_runs(folders: Sequence[Path]) -> Found:
    """Every run at or below ``folders``, each once, in the order of their paths.

    Records of finished runs are read whole, so that what is damaged is known at once.

    Raises:
        UsageError: a folder does not exist, or no run is in any.
    """
    runs: dict[Path, Run] = {}
    broken: dict[Path, DamagedRun] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder: give one that holds runs, such as runs/")
        for path in sorted(run_folders(folder, STATE_FILE, RECORD_FILE)):
            real = path.resolve()
            if real not in runs and real not in broken:
                try:
                    runs[real] = _read(path)
                except Damaged as error:
                    broken[real] = DamagedRun(path, str(error))
    if not runs and not broken:
        given = ", ".join(map(str, folders))
        raise UsageError(f"no runs in {given}: make some with `python train.py`")
    return Found(list(runs.values()), list(broken.values()))


def _read(path: Path) -> Run:
    found = run_status(path)
    if found.state is None:
        lacks = not RunFolder(path).state.exists()
        raise Damaged("state.json is missing" if lacks else "state.json cannot be read")
    wrong = [name for name, kind in _KINDS.items() if not isinstance(vars(found.state)[name], kind)]
    if wrong:
        raise Damaged(f"state.json: {' and '.join(wrong)} cannot be what a run writes")
    try:
        text = RunFolder(path).config.read_text()
        config = flatten(yaml.load(text, Loader=_Loader))
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise Damaged(f"config.yaml: {_reason(error)}") from error
    run = Run(path, found.status, found.state, config)
    if run.status == Status.FINISHED and run.record["step"][-1] != run.state.steps:
        raise Damaged(
            f"record.jsonl ends at step {run.record['step'][-1]:.0f} of {run.state.steps}"
        )
    return run


def _columns(rows: Sequence[dict[str, Any]]) -> Record:
    """What was measured as numbers; null, which stands for no number, becomes NaN."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {
        name: np.array(values, dtype=np.float64)
        for name, values in columns.items()
        # per-layer norms are trees of numbers, and not compared
        if dict not in set(map(type, values))
    }


def _impossible(record: Record) -> str:
    """What no run measures; one such row would move the common budget of all runs."""
    # time is rounded, so that two rows may have the same
    if not (np.diff(record["step"]) > 0).all() or any(
        (np.diff(record[name]) < 0).any() for name in _NEEDED
    ):
        return "its rows are out of order"
    if (record.get("full_gradient_norm", np.zeros(1)) < 0).any():
        return "a norm is below 0"
    return ""


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    if isinstance(error, json.JSONDecodeError):
        return f"a row is no JSON ({error.msg})"
    return f"it is not what a run writes ({str(error).splitlines()[0]})"


def nested(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a setting is one of ``prefixes``, or below one.

    >>> nested("measure.chunk", ["measure"]), nested("measures", ["measure"])
    (True, False)
    """
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def differing_settings(runs: Sequence[Run], prefixes: Sequence[str]) -> dict[str, list[Any]]:
    """Settings under ``prefixes`` that are not the same in all runs, with their values."""
    every = set().union(*(run.config for run in runs))
    names = sorted(name for name in every if nested(name, prefixes) and not is_display(name))
    values = {name: _distinct(run.config.get(name) for run in runs) for name in names}
    return {name: found for name, found in values.items() if len(found) > 1}


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
