"""The figures against the records and the results that they show."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accelerando.checks import UsageError
from accelerando.compare.figures import MAX_GROUPS, figures
from accelerando.compare.report.chart_data import chart_data
from accelerando.plotting import save_figure
from synthetic_runs import Make, compare_output, compare_runs, recorded_norms, write_run


def test_a_figure_that_cannot_be_drawn_leaves_no_file(tmp_path: Path) -> None:
    figure = Figure()
    figure.suptitle(r"$\nothing$")
    with pytest.raises(ValueError, match="nothing"):
        save_figure(figure, tmp_path / "made" / "a.png")
    assert list((tmp_path / "made").iterdir()) == []


def test_curves_show_the_record(make: Make, tmp_path: Path) -> None:
    runs = make("scheduler=decay_constant", "scheduler=warmup_increase")
    comparison = compare_runs(tmp_path / "runs")
    groups = comparison.groups
    figure = figures(comparison, axis="examples")["comparison"]
    panels = {panel.get_title(): panel for panel in figure.axes}
    lines = {line.get_label(): line for line in panels["empirical loss"].lines}
    for group in groups:
        record, line = group.runs[0].record, lines[group.label]
        assert np.asarray(line.get_xdata()).tolist() == record["examples"].tolist()
        assert np.asarray(line.get_ydata()).tolist() == pytest.approx(
            record["empirical_loss"].tolist()
        )
    assert len({line.get_color() for line in lines.values()}) == 2
    raw = figures(comparison, axis="steps", raw=True)["comparison"].axes[1]
    assert raw.get_title() == "full gradient norm"
    assert np.asarray(raw.lines[0].get_ydata()).tolist() == pytest.approx(recorded_norms(runs[0]))
    with pytest.raises(UsageError, match="must be one of"):
        save_figure(figure, tmp_path / "a.abc")


def test_ratios_and_speedups_are_drawn(tmp_path: Path) -> None:
    for seed, factor in enumerate((0.5, 0.25)):
        write_run(tmp_path, [1.0, 0.8, 0.1], seed=seed)
        write_run(tmp_path, [1.0, 0.1, 0.1 * factor], scheduler="warmup_increase", seed=seed)
    comparison = compare_runs(tmp_path, thresholds=[0.5, 0.1])
    drawn = figures(comparison, axis="epochs")
    ratios = [np.asarray(line.get_xdata()).tolist() for line in drawn["differences"].axes[0].lines]
    assert pytest.approx([0.5, 0.25]) in ratios
    assert [pytest.approx(math.sqrt(1 / 8))] in ratios
    test = comparison.axes["epochs"].results[1].vs_reference
    assert test is not None
    assert [test.ratio_low, test.ratio_high] in ratios
    steps = drawn["speed_up"].axes[1]
    assert steps.get_title() == "steps"
    (line,) = [line for line in steps.lines if str(line.get_label()).startswith("(iv)")]
    assert np.asarray(line.get_ydata()).tolist() == pytest.approx([2, 2])
    ticks = drawn["speed_up"].axes[2].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["0.5", "0.1"]


def test_the_band_spans_the_minimum_to_the_maximum(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0, 0.4])
    write_run(tmp_path, [1.0, 0.2], seed=1)
    figure = figures(compare_runs(tmp_path), axis="epochs")["comparison"]
    (band,) = figure.axes[1].collections
    corners = band.get_paths()[0].vertices
    assert {0.2, 0.4} <= set(np.asarray(corners)[:, 1].tolist())


def test_a_setting_applies_to_the_steps_before_its_row(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0, 0.4])
    figure = figures(compare_runs(tmp_path), axis="epochs")["comparison"]
    sizes, rates = figure.axes[0], figure.axes[-1]
    assert rates.get_ylabel().startswith("learning rate")
    for panel in (sizes, rates):
        assert [line.get_drawstyle() for line in panel.lines] == ["steps-pre"]


def test_bounds_on_a_speedup_are_hollow_triangles(tmp_path: Path) -> None:
    """The reference never reaches 0.5, the last group never 0.9; "at least 0.4" is left out."""
    norms = {"decay_constant": [1, 1, 0.8, 0.8, 0.8], "warmup_increase": [1, 0.5, 0.5, 0.4, 0.4],
             "decay_increase": [1, 1, 1, 1, 1]}  # fmt: skip
    for seed in range(6):
        for name, values in norms.items():
            steps = 10 if name.startswith("decay") else 90
            write_run(tmp_path, values, scheduler=name, seed=seed, steps=steps)
    comparison = compare_runs(tmp_path, thresholds=[0.9, 0.5, 0.4])
    epochs, steps = figures(comparison, axis="epochs")["speed_up"].axes[:2]
    assert bound_markers(epochs) == {"^": pytest.approx([4, 4 / 3]), "v": pytest.approx([0.5])}
    assert bound_markers(steps)["^"] == []
    labels = epochs.get_legend_handles_labels()[1]
    assert [label for label in labels if "interval:" in label] == [
        "lower end of the 95 % interval: the reference does not always reach the norm",
        "upper end of the 95 % interval: the group does not always reach the norm",
    ]
    speedups = chart_data(comparison)["groups"][2]["speedups"]
    assert [point["bound"] for point in speedups["epochs"]] == ["exact", "at least", "at least"]
    assert [point["bound"] for point in speedups["steps"]] == ["exact"]


def bound_markers(panel: Axes) -> dict[str, list[float]]:
    """Return the factors of hollow triangles, by marker."""
    markers: dict[str, list[float]] = {"^": [], "v": []}
    for line in panel.lines:
        if line.get_marker() in markers and line.get_markerfacecolor() == "white":
            markers[str(line.get_marker())] += np.asarray(line.get_ydata()).tolist()
    return markers


def test_only_the_best_of_many_groups_and_the_reference_are_drawn(tmp_path: Path) -> None:
    for number in range(MAX_GROUPS + 5):
        write_run(tmp_path, [1.0, 1 - number / 20], scheduler=f"scheduler{number:02}")
    comparison = compare_runs(tmp_path)
    figure = figures(comparison, axis="epochs")["comparison"]
    labels = figure.axes[1].get_legend_handles_labels()[1]
    assert len(labels) == MAX_GROUPS
    assert "scheduler00" in labels  # the reference
    assert "scheduler14" in labels
    assert "scheduler01" not in labels
    assert "the best 10 of 15" in str(figure.get_suptitle())
    # with the colours of the report, which has more groups
    in_report = chart_data(comparison)["groups"]
    colours = {group["label"]: group["color"] for group in in_report}
    drawn = {str(line.get_label()): line.get_color() for line in figure.axes[1].lines}
    assert drawn == {label: colours[label] for label in labels}
    styles = {(group["color"], group["dash"], group["symbol"]) for group in in_report}
    assert len(styles) == MAX_GROUPS + 5


def test_both_norms_are_drawn_if_both_were_measured(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make("measure.published=[paper,tracking_cbs] model=cnn_bn")
    comparison = compare_runs(tmp_path / "runs")
    above, below = figures(comparison, axis="epochs")["yardsticks"].axes
    exact, paper, tracking = (np.asarray(line.get_ydata()) for line in above.lines[:3])
    record = runs[0].record
    assert exact.tolist() == record["full_gradient_norm"].tolist()
    assert paper.tolist() == record["paper_gradient_norm"].tolist()
    assert tracking.tolist() == record["tracking_cbs_gradient_norm"].tolist()
    assert np.asarray(below.lines[0].get_ydata()).tolist() == (paper / exact).tolist()
    assert "yardsticks.{png,svg}" in compare_output(capsys, str(tmp_path / "runs"))
