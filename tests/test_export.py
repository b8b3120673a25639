"""The values at the end of the runs, and their export as JSON and CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from accelerando.compare.comparison import final_summary
from accelerando.compare.export import FINAL_COLUMNS, to_dict, write_csv
from accelerando.compare.report import render
from synthetic_runs import compare_runs, load_groups, write_run


def test_loss_and_accuracy_are_those_of_the_last_row(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0, 0.1, 0.3])
    (group,) = load_groups(tmp_path)
    assert final_summary(group, "empirical_loss").mean == pytest.approx(0.6)
    assert final_summary(group, "test_accuracy").mean == pytest.approx(0.52)
    assert final_summary(group, "step").mean == 20
    comparison = compare_runs(tmp_path)
    assert comparison.axes["epochs"].best.norm.mean == 0.1
    at_end = to_dict(comparison)["groups"]["decay_constant"]["at_end"]
    assert at_end["full_gradient_norm"]["mean"] == 0.3
    file = io.StringIO()
    write_csv(comparison, file)
    (row, *_) = csv.DictReader(io.StringIO(file.getvalue()))
    assert [row[f"{name}_at_end"] for name in FINAL_COLUMNS] == ["0.3", "0.6", "0.52"]
    assert "<td>0.3</td><td>0.6</td><td>52</td>" in render(comparison, tmp_path)


def test_final_values_are_averaged_within_a_seed(tmp_path: Path) -> None:
    """Two runs of seed 0 end at 0.1 and 0.3, one of seed 1 at 0.6: 0.2 and 0.6."""
    for name, seed, norm in (("mine", 0, 0.1), ("yours", 0, 0.3), ("mine", 1, 0.6)):
        write_run(tmp_path, [1.0, norm], scheduler=name, seed=seed)
    (group,) = load_groups(tmp_path, "optimizer.momentum")
    summary = final_summary(group, "full_gradient_norm")
    assert (summary.count, summary.mean) == (2, pytest.approx(0.4))
    norm = compare_runs(tmp_path, "optimizer.momentum").axes["epochs"].results[0].norm
    assert (norm.count, norm.mean) == (2, pytest.approx(0.4))
