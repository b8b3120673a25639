"""The figures of a comparison against what was found, and against the records."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from accelerando.checks import UsageError
from accelerando.compare.bound import bound_curve, with_bound
from accelerando.compare.bound import draw as draw_bound
from accelerando.compare.figure import draw
from accelerando.compare.groups import group
from accelerando.compare.pictures import MOST, figures
from accelerando.compare.report.chart_data import chart_data
from accelerando.compare.yardstick import draw as draw_yardsticks
from accelerando.plotting import save_figure
from made_runs import Make, compared, norms_of, printed, runs, write


def test_a_figure_that_cannot_be_drawn_leaves_no_file(tmp_path: Path) -> None:
    figure = Figure()
    figure.suptitle(r"$\nothing$")
    with pytest.raises(ValueError, match="nothing"):
        save_figure(figure, tmp_path / "made" / "a.png")
    assert list((tmp_path / "made").iterdir()) == []


def test_the_figure_draws_the_record(make: Make, tmp_path: Path) -> None:
    trained = make("scheduler=decay_constant", "scheduler=warmup_increase")
    figure = draw(group(trained), x="examples", title="a title")
    panels = {panel.get_title(): panel for panel in figure.axes}
    drawn = {line.get_label(): line for line in panels["empirical loss"].lines}
    for part in group(trained):
        record = part.runs[0].record
        line = drawn[part.label]
        assert np.asarray(line.get_xdata()).tolist() == record["examples"].tolist()
        assert np.asarray(line.get_ydata()).tolist() == pytest.approx(
            record["empirical_loss"].tolist()
        )
    assert len({line.get_color() for line in drawn.values()}) == 2
    raw = draw(group(trained), x="steps", title="", raw=True).axes[1]
    assert raw.get_title() == "full gradient norm"
    assert np.asarray(raw.lines[0].get_ydata()).tolist() == pytest.approx(norms_of(trained[0]))
    with pytest.raises(UsageError, match="the ending must be one of"):
        save_figure(figure, tmp_path / "a.abc")


def test_differences_and_speed_ups_are_drawn_as_they_were_found(tmp_path: Path) -> None:
    for seed, factor in enumerate((0.5, 0.25)):
        write(tmp_path, [1.0, 0.8, 0.1], seed=seed)
        write(tmp_path, [1.0, 0.1, 0.1 * factor], scheduler="warmup_increase", seed=seed)
    found = compared(tmp_path, thresholds=[0.5, 0.1])
    pictures = figures(found, axis="epochs")
    panel = pictures["differences"].axes[0]
    drawn = [np.asarray(line.get_xdata()).tolist() for line in panel.lines]
    assert pytest.approx([0.5, 0.25]) in drawn
    assert [pytest.approx(math.sqrt(1 / 8))] in drawn
    duel = found.axes["epochs"].standings[1].against_reference
    assert duel is not None
    assert [duel.ratio_low, duel.ratio_high] in drawn
    speed = pictures["speed_up"].axes[1]
    assert speed.get_title() == "steps"
    (line,) = [line for line in speed.lines if str(line.get_label()).startswith("(iv)")]
    assert np.asarray(line.get_ydata()).tolist() == pytest.approx([2, 2])
    assert [text.get_text() for text in pictures["speed_up"].axes[2].get_xticklabels()] == [
        "0.5", "0.1",
    ]  # fmt: skip


def test_the_band_goes_from_the_least_to_the_most(tmp_path: Path) -> None:
    write(tmp_path, [1.0, 0.4])
    write(tmp_path, [1.0, 0.2], seed=1)
    (band,) = draw(group(runs(tmp_path)), x="epochs", title="").axes[1].collections
    corners = band.get_paths()[0].vertices
    assert {0.2, 0.4} <= set(np.asarray(corners)[:, 1].tolist())


def test_a_setting_holds_for_the_stretch_before_its_row(tmp_path: Path) -> None:
    write(tmp_path, [1.0, 0.4])
    figure = draw(group(runs(tmp_path)), x="epochs", title="")
    sizes, rates = figure.axes[0], figure.axes[-1]
    assert rates.get_ylabel().startswith("learning rate")
    for panel in (sizes, rates):
        assert [line.get_drawstyle() for line in panel.lines] == ["steps-pre"]


def test_a_factor_known_from_one_side_is_a_hollow_triangle(tmp_path: Path) -> None:
    """Below 0.5 the reference never comes, below 0.9 the last group; 0.4 at least is no news."""
    falls = {"decay_constant": [1, 1, 0.8, 0.8, 0.8], "warmup_increase": [1, 0.5, 0.5, 0.4, 0.4],
             "decay_increase": [1, 1, 1, 1, 1]}  # fmt: skip
    for seed in range(2):
        for name, norms in falls.items():
            write(tmp_path, norms, scheduler=name, seed=seed, steps=10 if name[0] == "d" else 90)
    found = compared(tmp_path, thresholds=[0.9, 0.5, 0.4])
    figure = figures(found, axis="epochs")["speed_up"]
    epochs, steps = figure.axes[:2]

    def marks(panel: object) -> dict[str, list[float]]:
        drawn: dict[str, list[float]] = {"^": [], "v": []}
        for line in panel.lines:  # type: ignore[attr-defined]
            if line.get_marker() in drawn and line.get_markerfacecolor() == "white":
                drawn[line.get_marker()] += np.asarray(line.get_ydata()).tolist()
        return drawn

    assert marks(epochs) == {"^": pytest.approx([4, 4 / 3]), "v": pytest.approx([0.5])}
    assert marks(steps)["^"] == []
    labels = epochs.get_legend_handles_labels()[1]
    assert [label for label in labels if label.startswith("at ")] == [
        "at least: the reference never got there", "at most: the group itself never got there",
    ]  # fmt: skip
    drawn = chart_data(found)["groups"][2]["speedups"]
    assert [one["bound"] for one in drawn["epochs"]] == ["exact", "at least", "at least"]
    assert [one["bound"] for one in drawn["steps"]] == ["exact"]


def test_many_groups_are_drawn_as_far_as_a_reader_can_tell_them(tmp_path: Path) -> None:
    for number in range(MOST + 5):
        write(tmp_path, [1.0, 1 - number / 20], scheduler=f"scheduler{number:02}")
    found = compared(tmp_path)
    figure = figures(found, axis="epochs")["comparison"]
    labels = figure.axes[1].get_legend_handles_labels()[1]
    assert len(labels) == MOST
    assert "scheduler00" in labels  # the reference
    assert "scheduler14" in labels
    assert "scheduler01" not in labels
    assert "the best 10 of 15" in str(figure.get_suptitle())
    # of the colour that the report gives them, though the report has more of them
    report = {group["label"]: group["color"] for group in chart_data(found)["groups"]}
    drawn = {str(line.get_label()): line.get_color() for line in figure.axes[1].lines}
    assert drawn == {label: report[label] for label in labels}
    looks = {(g["color"], g["dash"], g["symbol"]) for g in chart_data(found)["groups"]}
    assert len(looks) == MOST + 5


def test_both_yardsticks_are_drawn_where_both_were_measured(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = make("measure.published=true model=cnn_bn")
    figure = draw_yardsticks(group(trained), title="a title")
    above, below = figure.axes
    exact, published = (np.asarray(line.get_ydata()) for line in above.lines[:2])
    record = trained[0].record
    assert exact.tolist() == record["full_gradient_norm"].tolist()
    assert published.tolist() == record["published_gradient_norm"].tolist()
    assert np.asarray(below.lines[0].get_ydata()).tolist() == (published / exact).tolist()
    assert "yardsticks.{png,svg}" in printed(capsys, str(tmp_path / "runs"))


def test_the_bound_is_drawn_where_it_is_defined(make: Make) -> None:
    """Against the formula by hand, for a constant batch and rate."""
    (run,) = make("scheduler=decay_constant scheduler/learning_rate=constant measure.variance=true "
                  "scheduler.learning_rate.initial=0.01 measure.chunk=200 "
                  "measure.sharpness_epochs=[0,2]")  # fmt: skip
    record, rate, size = run.record, 0.01, 128
    smoothness, variance = np.nanmax(record["sharpness"]), record["gradient_variance"].max()
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
        for line in draw_bound(with_bound(group([run])), title="").axes[0].lines
        if "bound, indicative" in str(line.get_label())
    ]
    assert np.asarray(line.get_ydata())[1:].tolist() == pytest.approx(curve[1:].tolist())
