"""Comparison of runs that the product made, against values computed by hand."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from accelerando.checks import UsageError
from accelerando.commands import main
from accelerando.compare.bound import bound_curve
from accelerando.compare.figure import draw
from accelerando.compare.groups import comparable, group
from accelerando.compare.load import Run, load
from accelerando.compare.yardstick import draw as draw_yardsticks
from accelerando.identity import run_folder
from accelerando.plotting import save
from accelerando.tracking.folder import RunFolder
from test_run import train

Make = Callable[..., list[Run]]


@pytest.fixture
def make(settings: Callable[..., DictConfig], tmp_path: Path) -> Make:
    """Train runs that share their other settings: ``make("seed=0", "seed=1")``."""

    def trained(*variants: str, root: str = "runs") -> list[Run]:
        for variant in variants:
            train(settings("model=mlp", "epochs=2", f"root={tmp_path}/{root}", *variant.split()))
        return load([tmp_path / root])

    return trained


def test_groups_are_schedulers_with_their_seeds(make: Make) -> None:
    runs = make("scheduler=warmup_increase seed=0", "scheduler=warmup_increase seed=1",
                "scheduler=decay_constant seed=0")  # fmt: skip
    comparable(runs)
    constant, warmup = group(runs)
    assert (constant.name, warmup.name) == ("decay_constant", "warmup_increase")
    assert constant.label.startswith("(i) ")
    norms = []
    for run in warmup.runs:
        lines = (run.path / "record.jsonl").read_text().splitlines()
        norms.append([json.loads(line)["full_gradient_norm"] for line in lines])
    lowest = [min(values) for values in norms]
    spread = warmup.lowest("full_gradient_norm")
    assert spread == (pytest.approx(sum(lowest) / 2), min(lowest), max(lowest))
    curve = warmup.curve("full_gradient_norm", "epoch", so_far=True)
    running = [[min(values[: i + 1]) for values in norms] for i in range(3)]
    assert curve.x.tolist() == [0, 1, 2]
    assert curve.mean.tolist() == pytest.approx([sum(v) / 2 for v in running])
    assert curve.lowest.tolist() == [min(v) for v in running]
    assert curve.highest.tolist() == [max(v) for v in running]


def test_the_same_name_with_other_settings_is_another_group(make: Make) -> None:
    runs = make("scheduler.batch_size.initial=8", "scheduler.batch_size.initial=16",
                "scheduler/learning_rate=warmup_cosine")  # fmt: skip
    names = [part.name for part in group(runs)]
    assert len(names) == 3
    assert sum("batch_size.initial=16" in name for name in names) == 1
    assert sum("WarmupCosine" in name for name in names) == 1


def test_runs_with_another_budget_are_not_mixed(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make("epochs=1", "epochs=2")
    with pytest.raises(UsageError, match=r"epochs: (1, 2|2, 1).*--where epochs="):
        comparable(runs)
    root = str(runs[0].path.parents[2])
    with pytest.raises(SystemExit):
        main(["compare", root])
    assert "error: these runs differ" in capsys.readouterr().err
    main(["compare", root, "--where", "epochs=1"])


def test_the_command_prints_a_table_and_writes_the_figure(make: Make, tmp_path: Path) -> None:
    make("scheduler=decay_constant", "scheduler=increase_increase")
    (tmp_path / "runs" / "digits-mlp" / "x").mkdir()
    for x in ("epochs", "steps", "examples"):
        command = [sys.executable, "-m", "accelerando.commands", "compare", f"{tmp_path}/runs"]
        result = subprocess.run([*command, "--x", x], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert "decay_constant" in result.stdout
        assert "increase_increase" in result.stdout
        assert (tmp_path / "runs" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "runs" / "comparison.svg").read_text()


def test_the_figure_draws_the_record(make: Make, tmp_path: Path) -> None:
    runs = make("scheduler=decay_constant", "scheduler=warmup_increase")
    figure = draw(group(runs), x="examples", title="a title")
    panels = {panel.get_title(): panel for panel in figure.axes}
    drawn = {line.get_label(): line for line in panels["empirical loss"].lines}
    for part in group(runs):
        record = part.runs[0].record
        line = drawn[part.label]
        assert np.asarray(line.get_xdata()).tolist() == record["examples"].tolist()
        assert np.asarray(line.get_ydata()).tolist() == pytest.approx(
            record["empirical_loss"].tolist()
        )
    assert len({line.get_color() for line in drawn.values()}) == 2
    with pytest.raises(UsageError, match="the ending must be one of"):
        save(figure, tmp_path / "a.abc")


def test_unfinished_runs_are_named_and_left_out(
    make: Make, settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make("seed=0", "seed=1")
    folder = RunFolder(run_folder(settings("model=mlp", "epochs=2", "seed=1")))
    state = folder.read_state()
    assert state is not None
    state.status = "failed"
    folder.write_state(state)
    folder.record.unlink()  # it failed before its first row
    main(["compare", str(tmp_path / "runs")])
    assert f"left out, failed: {folder.path}" in capsys.readouterr().out


def test_both_yardsticks_are_drawn_where_both_were_measured(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make("measure.published=true model=cnn_bn")
    figure = draw_yardsticks(group(runs), title="a title")
    above, below = figure.axes
    exact, published = (np.asarray(line.get_ydata()) for line in above.lines[:2])
    record = runs[0].record
    assert exact.tolist() == record["full_gradient_norm"].tolist()
    assert published.tolist() == record["published_gradient_norm"].tolist()
    assert np.asarray(below.lines[0].get_ydata()).tolist() == (published / exact).tolist()
    main(["compare", str(tmp_path / "runs")])
    assert "yardsticks.png" in capsys.readouterr().out


def test_the_bound_is_drawn_where_it_is_defined(make: Make) -> None:
    """Against the formula by hand, for a constant batch and rate."""
    (run,) = make("scheduler=decay_constant scheduler/learning_rate=constant measure.variance=true "
                  "scheduler.learning_rate.initial=0.01 measure.chunk=200 "
                  "measure.sharpness_epochs=[0,2]")  # fmt: skip
    record, rate, size = run.record, 0.01, 128
    smoothness, variance = record["sharpness"].max(), record["gradient_variance"].max()
    gap = record["empirical_loss"][0]
    slack = 2 - smoothness * rate
    curve = bound_curve(run)
    assert curve is not None
    assert math.isnan(curve[0])
    for value, steps in zip(curve[1:], record["step"][1:], strict=True):
        bias, noise = (
            2 * gap / (slack * rate * steps),
            smoothness * variance * rate / (slack * size),
        )
        assert value == pytest.approx(math.sqrt(bias + noise))
    (line,) = [
        line
        for line in draw(group([run]), x="epochs", title="").axes[1].lines
        if "bound, indicative" in str(line.get_label())
    ]
    assert np.asarray(line.get_ydata())[1:].tolist() == pytest.approx(curve[1:].tolist())


def test_a_run_given_twice_counts_once(make: Make, tmp_path: Path) -> None:
    make("seed=0")
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    (part,) = group(load([tmp_path / "runs", tmp_path / "runs", tmp_path / "copy"]))
    assert len(part.runs) == 1


def test_where_and_output(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make("scheduler=decay_constant", "scheduler=warmup_increase")
    root = str(tmp_path / "runs")
    main(["compare", root, "--where", "scheduler.learning_rate.warmup_epochs=2",
          "--output", str(tmp_path / "a.b.pdf")])  # fmt: skip
    table = capsys.readouterr().out
    assert "warmup_increase" in table
    assert "decay_constant" not in table
    assert (tmp_path / "a.b.pdf").read_bytes().startswith(b"%PDF")
    main(["compare", root, "--where", "scheduler.learning_rate.initial=1e-1"])
    assert "decay_constant" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["compare", root, "--where", "nothing=1"])


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no runs in"):
        load([tmp_path])
    with pytest.raises(UsageError, match="is not a folder"):
        load([tmp_path / "none"])
