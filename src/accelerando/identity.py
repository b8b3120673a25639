"""The identity of a run: an id, hashed from its settings, and a folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from accelerando.config import RunSettings
from accelerando.schedule.renamed import former_target
from accelerando.scheduler_names import without_display

SCHEMA = 1
"""Increment if the same settings start to give different results."""


def run_id(settings: RunSettings) -> str:
    """Return a hash of the settings that change results.

    It leaves out hardware, tracking, checkpoint intervals, paths and names. Values that are null,
    false or an empty list are left out too, so that adding a setting that is off by default keeps
    the ids of earlier runs. For models with BatchNorm it includes how batches are split.
    """
    tree = settings.tree
    kept: dict[str, Any] = {
        key: tree[key]
        for key in ("model", "dataset", "scheduler", "optimizer", "epochs", "seed", "measure")
    }
    kept["scheduler"] = without_display(kept["scheduler"])
    for group, names in _IRRELEVANT.items():
        kept[group] = {k: v for k, v in kept[group].items() if k not in names}
    if tree["precision"] != "fp32":
        kept["precision"] = tree["precision"]
    kept |= _batch_split(tree["hardware"]) if kept["model"].get("norm") == "batch" else {}
    text = json.dumps({"schema": SCHEMA, **_canonical(kept)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _batch_split(hardware: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that split a batch into parts with separate BatchNorm statistics."""
    separate = hardware["processes"] > 1 and not hardware["sync_batch_norm"]
    return {
        "micro_batch": hardware["micro_batch"],
        "processes": hardware["processes"] if separate else None,
    }


_IRRELEVANT = {
    "model": ("name",),
    "dataset": ("name", "epochs", "folder"),
    "scheduler": ("name",),
}


def _canonical(value: Any) -> Any:
    """Return a form that is equal for equal settings: 1.0 becomes 1, unset values are dropped."""
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
    """Return the folder of a run: ``root/<dataset>-<model>/<scheduler>/seed<seed>-<run_id>``."""
    experiment = f"{settings.dataset.name}-{settings.model.name}"
    name = f"seed{settings.seed}-{run_id(settings)}"
    return Path(settings.root) / experiment / settings.scheduler.name / name
