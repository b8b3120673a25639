"""Run folders with chosen measurements, and shortcuts to load and compare them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from accelerando.commands import main
from accelerando.compare.comparison import Comparison
from accelerando.compare.groups import Group, group_runs
from accelerando.compare.load import Run, load_runs
from accelerando.compare.thresholds import default_thresholds
from accelerando.runs.folder import State, Status

Make = Callable[..., list[Run]]
"""Type of the fixture ``make``, which trains runs."""

SHAPES = {
    "decay_constant": ("ConstantBatch", "Cosine"),
    "decay_increase": ("ExponentialBatch", "Cosine"),
    "increase_increase": ("ExponentialBatch", "Exponential"),
    "warmup_increase": ("ExponentialBatch", "WarmupConstant"),
}
"""Batch-size and learning-rate shapes of the schedulers."""


def write_run(
    root: Path,
    norms: Sequence[float | None],
    *,
    scheduler: str = "decay_constant",
    seed: int = 0,
    steps: int = 10,
    seconds: float = 1.0,
    status: str = Status.FINISHED,
    losses: Sequence[float] | None = None,
    settings: dict[str, Any] | None = None,
    **state: Any,
) -> Path:
    """Write a run and return its folder.

    Args:
        root: the folder of all runs.
        norms: full gradient norms, one per epoch, the first before training.
        scheduler: name of the scheduler.
        seed: seed of the run.
        steps: per epoch.
        seconds: per epoch.
        status: of the run.
        losses: training losses, one per epoch; default: twice the norms.
        settings: further settings under their full names.
        state: further fields of ``state.json``.
    """
    rows = [
        {"epoch": k, "step": k * steps, "examples": 100 * k, "batch_size": 100 // steps,
         "learning_rate": 0.1, "full_gradient_norm": norm,
         "empirical_loss": losses[k] if losses else None if norm is None else 2 * norm,
         "train_accuracy": 0.5,
         "test_loss": 1.0, "test_accuracy": 0.5 + 0.01 * k, "seconds": 0.5 + k * seconds}
        for k, norm in enumerate(norms)
    ]  # fmt: skip
    shapes = zip(("batch_size", "learning_rate"), SHAPES.get(scheduler, ()), strict=False)
    config = {
        "model.name": "mlp", "model.norm": "none", "dataset.name": "digits",
        "dataset.examples": 100, "epochs": len(norms) - 1, "seed": seed, "precision": "fp32",
        "measure.chunk": 512, "measure.batch_norm": "batch", "hardware.micro_batch": None,
        "hardware.processes": 1, "optimizer.momentum": 0.0, "scheduler.name": scheduler,
        **{f"scheduler.{part}._target_": f"accelerando.schedule.{name}" for part, name in shapes},
        **(settings or {}),
    }  # fmt: skip
    name = f"seed{seed}-{abs(hash(str(sorted(config.items(), key=str)))):x}"[:20]
    folder = root / "digits-mlp" / scheduler / name
    folder.mkdir(parents=True)
    run_state = State(status, name, "digits", str(config["model.name"]), scheduler, seed,
                      int(config["epochs"]), int(rows[-1]["step"] or 0), **state)  # fmt: skip
    (folder / "record.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "state.json").write_text(json.dumps(asdict(run_state)))
    (folder / "config.yaml").write_text(yaml.safe_dump(_nest(config)))
    return folder


def _nest(config: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in config.items():
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    return tree


def load(root: Path) -> list[Run]:
    return load_runs([root]).runs


def load_groups(root: Path, *by: str) -> list[Group]:
    """Load the runs below ``root``, grouped by settings; by scheduler if none are given."""
    return group_runs(load(root), by or ("scheduler",))[0]


def compare_runs(root: Path, *by: str, thresholds: Sequence[float] | None = None) -> Comparison:
    """Compare the runs below ``root``; the first group is the reference."""
    by = by or ("scheduler",)
    groups, duplicates = group_runs(load(root), by)
    if thresholds is None:
        thresholds = default_thresholds(groups)
    return Comparison(title="a title", by=by, groups=groups, reference=groups[0],
                      thresholds=thresholds, fixed_thresholds=thresholds,
                      excluded=duplicates)  # fmt: skip


def recorded_norms(run: Run) -> list[float]:
    lines = (run.path / "record.jsonl").read_text().splitlines()
    return [json.loads(line)["full_gradient_norm"] for line in lines]


def compare_output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run ``accelerando compare`` and return what it prints."""
    capsys.readouterr()
    main(["compare", *arguments])
    return capsys.readouterr().out
