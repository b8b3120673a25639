"""Values at the end of training in the tables, CSV and report of a comparison."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from accelerando.compare.export import AT_END, tree, write_csv
from accelerando.compare.groups import group
from accelerando.compare.report import render
from accelerando.compare.table import at_end
from made_runs import compared, runs, write


def test_values_at_the_end_are_those_of_the_last_row(tmp_path: Path) -> None:
    write(tmp_path, [1.0, 0.1, 0.3])
    (part,) = group(runs(tmp_path))
    assert at_end(part, "empirical_loss").mean == pytest.approx(0.6)
    assert at_end(part, "test_accuracy").mean == pytest.approx(0.52)
    assert at_end(part, "step").mean == 20
    found = compared(tmp_path)
    assert found.axes["epochs"].best.norm.mean == 0.1
    assert tree(found)["groups"]["decay_constant"]["at_end"]["full_gradient_norm"]["mean"] == 0.3
    file = io.StringIO()
    write_csv(found, file)
    (row, *_) = csv.DictReader(io.StringIO(file.getvalue()))
    ends = [row[f"{name}_at_end"] for name in AT_END]
    assert ends == ["0.3", "0.6", "0.52"]
    assert "<td>0.3</td><td>0.6</td><td>52</td>" in render(found, tmp_path)


def test_values_at_the_end_are_averaged_within_a_seed(tmp_path: Path) -> None:
    """Two runs of seed 0 end at 0.1 and 0.3, and one of seed 1 at 0.6."""
    for name, seed, norm in (("mine", 0, 0.1), ("yours", 0, 0.3), ("mine", 1, 0.6)):
        write(tmp_path, [1.0, norm], scheduler=name, seed=seed)
    (part,) = group(runs(tmp_path), ["optimizer.momentum"])
    found = at_end(part, "full_gradient_norm")
    assert (found.count, found.mean) == (2, pytest.approx(0.4))
    over = compared(tmp_path, "optimizer.momentum").axes["epochs"].standings[0].norm
    assert (over.count, over.mean) == (2, pytest.approx(0.4))
