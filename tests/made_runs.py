"""Runs with measurements of the test's own choice, in the files that the product writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from accelerando.commands import main
from accelerando.compare.comparison import Comparison, compare
from accelerando.compare.groups import split
from accelerando.compare.load import Run, load_runs
from accelerando.runs.folder import State, Status

Make = Callable[..., list[Run]]
"""The fixture that trains runs."""

CLASSES = {
    "decay_constant": ("ConstantBatch", "Cosine"),
    "decay_increase": ("ExponentialBatch", "Cosine"),
    "increase_increase": ("ExponentialBatch", "Exponential"),
    "warmup_increase": ("ExponentialBatch", "WarmupConstant"),
}


def write(
    root: Path,
    norms: Sequence[float | None],
    *,
    scheduler: str = "decay_constant",
    seed: int = 0,
    steps: int = 10,
    seconds: float = 1.0,
    status: str = Status.FINISHED,
    settings: dict[str, Any] | None = None,
    **state: Any,
) -> Path:
    """Write a run and return its folder.

    Args:
        root: where runs are.
        norms: one per epoch, the first before training.
        scheduler: its name.
        seed: the run's.
        steps: in an epoch.
        seconds: of an epoch.
        status: what became of it.
        settings: more settings, by their full names.
        state: more of ``state.json``.
    """
    rows = [
        {"epoch": k, "step": k * steps, "examples": 100 * k, "batch_size": 100 // steps,
         "learning_rate": 0.1, "full_gradient_norm": norm,
         "empirical_loss": None if norm is None else 2 * norm, "train_accuracy": 0.5,
         "test_loss": 1.0, "test_accuracy": 0.5 + 0.01 * k, "seconds": 0.5 + k * seconds}
        for k, norm in enumerate(norms)
    ]  # fmt: skip
    shapes = zip(("batch_size", "learning_rate"), CLASSES.get(scheduler, ()), strict=False)
    flat = {
        "model.name": "mlp", "model.norm": "none", "dataset.name": "digits",
        "dataset.examples": 100, "epochs": len(norms) - 1, "seed": seed, "precision": "fp32",
        "measure.chunk": 512, "measure.batch_norm": "batch", "hardware.micro_batch": None,
        "hardware.processes": 1, "optimizer.momentum": 0.0, "scheduler.name": scheduler,
        **{f"scheduler.{part}._target_": f"accelerando.schedule.{kind}" for part, kind in shapes},
        **(settings or {}),
    }  # fmt: skip
    name = f"seed{seed}-{abs(hash(str(sorted(flat.items(), key=str)))):x}"[:20]
    folder = root / "digits-mlp" / scheduler / name
    folder.mkdir(parents=True)
    what = State(status, name, "digits", str(flat["model.name"]), scheduler, seed,
                 int(flat["epochs"]), int(rows[-1]["step"] or 0), **state)  # fmt: skip
    (folder / "record.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "state.json").write_text(json.dumps(asdict(what)))
    (folder / "config.yaml").write_text(yaml.safe_dump(_nested(flat)))
    return folder


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parts, last = name.split(".")
        branch = tree
        for part in parts:
            branch = branch.setdefault(part, {})
        branch[last] = value
    return tree


def runs(root: Path) -> list[Run]:
    return load_runs([root]).runs


def compared(root: Path, *by: str, **more: Any) -> Comparison:
    """The comparison of all runs below ``root``."""
    groups, repeated = split(runs(root), by or ("scheduler",))
    return compare(groups, title="a title", by=by or ("scheduler",), left_out=repeated, **more)


def norms_of(run: Run) -> list[float]:
    lines = (run.path / "record.jsonl").read_text().splitlines()
    return [json.loads(line)["full_gradient_norm"] for line in lines]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What ``accelerando compare`` prints."""
    capsys.readouterr()
    main(["compare", *arguments])
    return capsys.readouterr().out
