"""Norms at equal cost and mean curves, against values computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelerando.compare.align import common_budget, mean_curve, min_norm_at
from synthetic_runs import load_groups, write_run


def test_the_norm_at_equal_cost(tmp_path: Path) -> None:
    """The run with fewer steps per epoch trains longer at equal steps."""
    write_run(tmp_path, [1.0, 0.8, 0.9, 0.1], steps=10, seconds=3)
    write_run(tmp_path, [1.0, 0.7, 0.5, 0.4], steps=25, scheduler="warmup_increase", seconds=1)
    groups = load_groups(tmp_path)
    constant, warmup = both = [group.runs[0] for group in groups]
    axes = ("epochs", "steps", "examples", "seconds")
    assert [common_budget(groups, axis) for axis in axes] == [3, 30, 300, 3.5]
    assert [min_norm_at(run, "epochs", 3) for run in both] == [0.1, 0.4]
    assert [min_norm_at(run, "steps", 30) for run in both] == [0.1, 0.7]
    assert [min_norm_at(run, "seconds", 3.5) for run in both] == [0.8, 0.4]
    # the norm before training is not a result
    assert min_norm_at(constant, "seconds", 0.1) == 0.8
    assert min_norm_at(warmup, "seconds", 0.1) == 0.7


def test_a_curve_of_runs_measured_at_the_same_steps(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0, 0.4, 0.6], seconds=1)
    write_run(tmp_path, [2.0, 0.8, 0.2], seconds=3, seed=1)
    (group,) = load_groups(tmp_path)
    raw = mean_curve(group, "full_gradient_norm", "steps")
    assert raw.x.tolist() == [0, 10, 20]
    assert raw.mean.tolist() == pytest.approx([1.5, 0.6, 0.4])
    minimum = mean_curve(group, "full_gradient_norm", "seconds", minimum=True)
    assert minimum.x.tolist() == [0.5, 2.5, 4.5]
    assert minimum.mean.tolist() == pytest.approx([1.5, 0.6, 0.3])
    assert minimum.lowest.tolist() == [1, 0.4, 0.2]
    assert minimum.highest.tolist() == [2, 0.8, 0.4]


def test_a_curve_of_runs_measured_at_different_steps(tmp_path: Path) -> None:
    """Each run keeps its value until its next one; the curve ends where the first run ends."""
    write_run(tmp_path, [1.0, 0.4, 0.2], steps=10)
    write_run(tmp_path, [2.0, 0.8, 0.6], steps=15, settings={"scheduler.batch_size.growth": 2})
    (group,) = load_groups(tmp_path, "scheduler.name")
    curve = mean_curve(group, "full_gradient_norm", "steps")
    assert curve.x.tolist() == [0, 10, 15, 20]
    assert curve.mean.tolist() == pytest.approx([1.5, 1.2, 0.6, 0.5])
