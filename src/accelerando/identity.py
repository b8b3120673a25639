"""The identity that its settings give a run: an id, and a folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from accelerando.config import RunSettings
from accelerando.schedule.renamed import former_target

SCHEMA = 1
"""Raised when the same settings come to mean other results."""


def run_id(settings: RunSettings) -> str:
    """Hash of the settings that change results, and of no others.

    Hardware, tracking, checkpoint cadence and paths are left out, and so are names and values that
    are not set (null, false, or an empty list): a setting added later that is off by default keeps
    the ids of older runs. How batches are split counts where BatchNorm sees the parts.
    """
    tree = settings.tree
    kept: dict[str, Any] = {
        key: tree[key]
        for key in ("model", "dataset", "scheduler", "optimizer", "epochs", "seed", "measure")
    }
    for group, names in _NOT_RESULTS.items():
        kept[group] = {k: v for k, v in kept[group].items() if k not in names}
    if tree["precision"] != "fp32":
        kept["precision"] = tree["precision"]
    kept |= _split(tree["hardware"]) if kept["model"].get("norm") == "batch" else {}
    text = json.dumps({"schema": SCHEMA, **_canonical(kept)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _split(hardware: dict[str, Any]) -> dict[str, Any]:
    """How a batch is split into parts that have BatchNorm statistics of their own."""
    apart = hardware["processes"] > 1 and not hardware["sync_batch_norm"]
    return {
        "micro_batch": hardware["micro_batch"],
        "processes": hardware["processes"] if apart else None,
    }


_NOT_RESULTS = {
    "model": ("name",),
    "dataset": ("name", "epochs", "folder"),
    "scheduler": ("name",),
}


def _canonical(value: Any) -> Any:
    """The same text for the same settings: 1.0 is 1, what is not set is left out."""
    if isinstance(value, dict):
        return {
            k: _canonical(former_target(v) if k == "_target_" else v)
            for k, v in value.items()
            if v is not None and v is not False and v != []
        }
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def run_folder(settings: RunSettings) -> Path:
    """Where the run's files are: ``root/<dataset>-<model>/<scheduler>/seed<seed>-<run_id>``."""
    experiment = f"{settings.dataset.name}-{settings.model.name}"
    name = f"seed{settings.seed}-{run_id(settings)}"
    return Path(settings.root) / experiment / settings.scheduler.name / name
