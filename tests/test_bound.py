"""The paper's bound: its values, and the runs for which it is defined."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from accelerando.compare.bound import bound_curve
from accelerando.compare.figures import figures
from synthetic_runs import Make, compare_runs, load, write_run


def write_run_with_sharpness(root: Path, sharpness: list[float | None], **optimizer: float) -> None:
    """Write a run whose record contains everything that the bound needs."""
    folder = write_run(
        root,
        [1.0, 0.5, 0.2],
        settings={
            "scheduler._target_": "accelerando.schedule.Scheduler",
            "scheduler.batch_size.initial": 10,
            "scheduler.learning_rate._target_": "accelerando.schedule.Constant",
            "scheduler.learning_rate.initial": 0.1,
            **{f"optimizer.{name}": value for name, value in optimizer.items()},
        },
    )
    file = folder / "record.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row, value in zip(rows, sharpness, strict=True):
        row |= {"sharpness": value, "gradient_variance": 2.0}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_bound_agrees_with_the_formula(make: Make, tmp_path: Path) -> None:
    """For a constant batch size and learning rate."""
    (run,) = make("scheduler=decay_constant scheduler/learning_rate=constant measure.variance=true "
                  "scheduler.learning_rate.initial=0.01 measure.chunk=200 "
                  "measure.sharpness_epochs=[0,2]")  # fmt: skip
    record, rate, batch_size = run.record, 0.01, 128
    smoothness, variance = np.nanmax(record["sharpness"]), record["gradient_variance"].max()
    gap = record["empirical_loss"][0]
    slack = 2 - smoothness * rate
    curve = bound_curve(run)
    assert curve is not None
    assert math.isnan(curve[0])
    for value, steps in zip(curve[1:], record["step"][1:], strict=True):
        bias = 2 * gap / (slack * rate * steps)
        noise = smoothness * variance * rate / (slack * batch_size)
        assert value == pytest.approx(math.sqrt(bias + noise))
    figure = figures(compare_runs(tmp_path / "runs"), axis="epochs")["bound"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    drawn = np.asarray(lines["bound, indicative"].get_ydata())
    assert drawn[1:].tolist() == pytest.approx(curve[1:].tolist())


@pytest.mark.parametrize(
    ("optimizer", "defined"),
    [({}, True), ({"momentum": 0.9}, False), ({"weight_decay": 1e-4}, False)],
)
def test_the_bound_is_defined_for_plain_sgd_only(
    optimizer: dict[str, float], defined: bool, tmp_path: Path
) -> None:
    write_run_with_sharpness(tmp_path, [3.0, None, 1.0], **optimizer)
    (run,) = load(tmp_path)
    curve = bound_curve(run)
    assert (curve is not None and bool(np.isfinite(curve[1:]).all())) == defined


@pytest.mark.parametrize("sharpness", [0.0, -1.0, math.nan, math.inf, None])
@pytest.mark.filterwarnings("error")
def test_there_is_no_bound_for_an_invalid_sharpness(
    sharpness: float | None, tmp_path: Path
) -> None:
    write_run_with_sharpness(tmp_path, [sharpness, None, sharpness])
    assert "bound" not in figures(compare_runs(tmp_path), axis="epochs")
