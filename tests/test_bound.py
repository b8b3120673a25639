"""Where the paper's bound is drawn over a measured curve, and where it is not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from accelerando.compare.bound import bound_curve, with_bound
from accelerando.compare.groups import split
from made_runs import runs, write


def measured(root: Path, sharpness: list[float | None], **settings: float) -> None:
    """A run whose record has what the bound needs."""
    folder = write(
        root,
        [1.0, 0.5, 0.2],
        settings={
            "scheduler._target_": "accelerando.schedule.Scheduler",
            "scheduler.batch_size.initial": 10,
            "scheduler.learning_rate._target_": "accelerando.schedule.Constant",
            "scheduler.learning_rate.initial": 0.1,
            **{f"optimizer.{name}": value for name, value in settings.items()},
        },
    )
    file = folder / "record.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row, value in zip(rows, sharpness, strict=True):
        row |= {"sharpness": value, "gradient_variance": 2.0}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("settings", "drawn"),
    [({}, True), ({"momentum": 0.9}, False), ({"weight_decay": 1e-4}, False)],
)
def test_only_for_plain_sgd(settings: dict[str, float], drawn: bool, tmp_path: Path) -> None:
    measured(tmp_path, [3.0, None, 1.0], **settings)
    (run,) = runs(tmp_path)
    curve = bound_curve(run)
    assert (curve is not None and bool(np.isfinite(curve[1:]).all())) == drawn


@pytest.mark.parametrize("sharpness", [0.0, -1.0, math.nan, math.inf, None])
@pytest.mark.filterwarnings("error")
def test_a_sharpness_that_is_none_has_no_bound(sharpness: float | None, tmp_path: Path) -> None:
    measured(tmp_path, [sharpness, None, sharpness])
    groups, _ = split(runs(tmp_path), ("scheduler",))
    assert with_bound(groups) == []
