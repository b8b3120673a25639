"""Read runs from their folders: settings, status and measurements."""

from __future__ import annotations

import json
import math
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

# libyaml is ten times as fast, but not always installed
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_POSITION_COLUMNS = ("epoch", "step", "examples", "seconds")
_STATE_TYPES: dict[str, type | tuple[type, ...]] = {
    "seed": int, "epochs": int, "steps": int, "epoch": int, "seconds": (int, float),
    "message": str, "overrides": list, "environment": dict, "wandb": dict,
}  # fmt: skip
"""The fields of ``state.json`` that a comparison reads."""

Record = dict[str, npt.NDArray[np.float64]]
NOTHING_LEARNED = 0.95
"""Share of the loss of an untrained network above which a run has not learned anything."""


class DamagedRecord(Exception):
    """The files of a run are corrupt."""


@dataclass(frozen=True)
class Run:
    """One run, as recorded in the files of the folder ``path``.

    ``config`` has the settings under their full names, such as ``scheduler.batch_size.initial``.
    """

    path: Path
    status: Status
    state: State
    config: dict[str, Any]

    @cached_property
    def failed(self) -> str:
        """How the run failed, "diverged" or "learned nothing"; empty if it did not.

        A network that no longer responds to its input predicts class frequencies. Its gradient is
        small, but not because the run converged.
        """
        if self.status == Status.DIVERGED:
            return "diverged"
        norms, losses = (self.record.get(n) for n in ("full_gradient_norm", "empirical_loss"))
        if norms is None or losses is None or norms[-1] > norms[0] / 2:
            return ""
        classes = self.config.get("dataset.classes")
        uniform = math.log(classes) if isinstance(classes, int) and classes > 1 else math.inf
        untrained = min(float(losses[0]), uniform)
        return "learned nothing" if losses[-1] > NOTHING_LEARNED * untrained else ""

    @cached_property
    def record(self) -> Record:
        """The measurements, one array of shape (measurements,) for each column.

        Raises:
            DamagedRecord: a row is not JSON, lacks its position, is out of order, or has a
                negative norm.
        """
        path = RunFolder(self.path).record
        try:
            lines = path.read_text().splitlines()
            # one call is twice as fast as one per row
            record = _to_columns(json.loads(f"[{','.join(lines)}]"))
        except (ValueError, TypeError, AttributeError, OSError) as error:
            raise DamagedRecord(f"{path.name}: {_reason(error)}") from error
        if problem := _find_problem(record):
            raise DamagedRecord(f"{path.name}: {problem}")
        return record


class DamagedRun(NamedTuple):
    """A run that cannot be read, and the reason."""

    path: Path
    reason: str


class LoadedRuns(NamedTuple):
    """The runs at or below some folders."""

    runs: list[Run]
    damaged: list[DamagedRun]


def load_runs(folders: Sequence[Path]) -> LoadedRuns:
    """Load every run at or below ``folders`` once, and read the records of finished runs.

    Raises:
        UsageError: a folder does not exist, or there are no runs.
    """
    loaded, seen = LoadedRuns([], []), set()
    for folder in folders:
        for path in run_folders(folder, STATE_FILE, RECORD_FILE):
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            try:
                loaded.runs.append(_load_run(path))
            except DamagedRecord as error:
                loaded.damaged.append(DamagedRun(path, str(error)))
    if not seen:
        given = ", ".join(map(str, folders))
        raise UsageError(f"no runs in {given}: create some with `python train.py`")
    return loaded


def _load_run(path: Path) -> Run:
    current = run_status(path)
    status, state = current.status, current.state
    if state is None:
        exists = RunFolder(path).state.exists()
        raise DamagedRecord(f"state.json {'is unreadable' if exists else 'is missing'}")
    kinds = _STATE_TYPES.items()
    if invalid := [name for name, kind in kinds if not isinstance(vars(state)[name], kind)]:
        raise DamagedRecord(f"state.json: invalid {' and '.join(invalid)}")
    try:
        text = RunFolder(path).config.read_text()
        config = flatten(yaml.load(text, Loader=_YamlLoader))
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise DamagedRecord(f"config.yaml: {_reason(error)}") from error
    run = Run(path, status, state, config)
    ended = status in (Status.FINISHED, Status.DIVERGED)
    last = run.record["step"][-1] if ended else 0
    if status == Status.FINISHED and last != state.steps:
        raise DamagedRecord(f"record.jsonl ends at step {last:.0f} of {state.steps}")
    return run


def _to_columns(rows: Sequence[dict[str, Any]]) -> Record:
    """Turn rows into columns of numbers; null becomes NaN."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {
        name: np.array(values, dtype=np.float64)
        for name, values in columns.items()
        if dict not in set(map(type, values))  # per-layer norms are nested, and not compared
    }


def _find_problem(record: Record) -> str:
    """Describe the first impossible value; one could change the common budget of all runs."""
    columns = _POSITION_COLUMNS
    if missing := [name for name in columns if np.isnan(record.get(name, np.nan)).any()]:
        return f"{' and '.join(missing)} missing"
    # seconds are rounded, so two rows may share theirs
    if (np.diff(record["step"]) <= 0).any() or any((np.diff(record[c]) < 0).any() for c in columns):
        return "rows out of order"
    if (record.get("full_gradient_norm", np.zeros(1)) < 0).any():
        return "negative norm"
    return ""


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "unreadable"
    if isinstance(error, json.JSONDecodeError):
        return f"a row is not JSON ({error.msg})"
    return f"unexpected contents ({str(error).splitlines()[0]})"


def nested(name: str, prefixes: Iterable[str]) -> bool:
    """Return whether a setting is one of ``prefixes`` or inside one of these sections.

    >>> nested("measure.chunk", ["measure"]), nested("measures", ["measure"])
    (True, False)
    """
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def differing_settings(runs: Sequence[Run], prefixes: Sequence[str]) -> dict[str, list[Any]]:
    """Return the settings inside ``prefixes`` that differ between runs, with their values."""
    differing = {}
    for name in sorted({name for run in runs for name in run.config if nested(name, prefixes)}):
        distinct: list[Any] = []
        for run in runs:
            if run.config.get(name) not in distinct:  # lists are not hashable
                distinct.append(run.config.get(name))
        if len(distinct) > 1 and not is_display(name):
            differing[name] = distinct
    return differing
