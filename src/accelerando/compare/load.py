"""Read runs from their folders: settings, what became of them, and the record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from accelerando.checks import UsageError
from accelerando.tracking.folder import RunFolder, State


@dataclass(frozen=True)
class Run:
    """One run as its files tell it.

    Args:
        path: its folder.
        state: what became of it.
        config: its settings, each under its full name: ``scheduler.batch_size.initial``.
    """

    path: Path
    state: State
    config: dict[str, Any]

    @cached_property
    def record(self) -> pd.DataFrame:
        """A row per measurement.

        Raises:
            UsageError: the file is missing or damaged.
        """
        path = RunFolder(self.path).record
        try:
            # not pandas.read_json, which rounds the last digit
            return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
        except (ValueError, OSError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from error


def load(folders: Sequence[Path]) -> list[Run]:
    """Every run at or below ``folders``, each once, in the order of their paths.

    Raises:
        UsageError: a folder does not exist or holds no run, or a file is damaged.
    """
    runs: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder: give one that holds runs, such as runs/")
        for path in sorted(folder.rglob("state.json")):
            if path.parent.resolve() not in runs:
                runs[path.parent.resolve()] = _read(RunFolder(path.parent))
    if not runs:
        given = ", ".join(map(str, folders))
        raise UsageError(f"no runs in {given}: make some with `python train.py`")
    return list(runs.values())


def _read(folder: RunFolder) -> Run:
    try:
        state = folder.read_state()
        assert state is not None
        return Run(folder.path, state, flat(yaml.safe_load(folder.config.read_text())))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{folder.path} cannot be read: {error}") from error


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted names.

    >>> flat({"scheduler": {"name": "mine", "batch_size": {"initial": 8}}})
    {'scheduler.name': 'mine', 'scheduler.batch_size.initial': 8}
    """
    result: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def differing(runs: Sequence[Run], prefixes: Sequence[str]) -> dict[str, list[Any]]:
    """Settings under ``prefixes`` that are not the same in all runs, with their values."""
    names = {
        name
        for run in runs
        for name in run.config
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
    }
    values = {name: _distinct(run.config.get(name) for run in runs) for name in sorted(names)}
    return {name: found for name, found in values.items() if len(found) > 1}


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
