"""Which runs are compared, how they are grouped and named, and which of them are pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelerando.checks import UsageError
from accelerando.compare.align import common_budget, curve, norm_at
from accelerando.compare.filtering import comparable, completed_runs, select_runs
from accelerando.compare.groups import group, split
from made_runs import compared, runs, write

NORMS = [1.0, 0.5, 0.2]


def test_the_papers_cases_come_first_and_have_their_names(tmp_path: Path) -> None:
    for name in ("zeta", "warmup_increase", "alpha", "decay_constant"):
        write(tmp_path, NORMS, scheduler=name)
    found = group(runs(tmp_path))
    assert [part.name for part in found] == ["decay_constant", "warmup_increase", "alpha", "zeta"]
    assert [part.label for part in found[:2]] == [
        "(i) constant batch, decaying rate", "(iv) increasing batch, warm-up rate",
    ]  # fmt: skip


def test_shapes_of_one_case_are_told_apart_by_their_shape(tmp_path: Path) -> None:
    key = "scheduler.learning_rate._target_"
    write(tmp_path, NORMS)
    for shape in ("Polynomial", "Linear"):
        write(tmp_path, NORMS, settings={key: f"accelerando.schedule.{shape}"})
    found = group(runs(tmp_path))
    assert [part.name for part in found] == [
        "decay_constant", "decay_constant Linear", "decay_constant Polynomial",
    ]  # fmt: skip
    assert [part.label for part in found] == [
        "(i) constant batch, decaying rate", "(i) linear", "(i) polynomial",
    ]  # fmt: skip


def test_settings_are_named_as_far_as_they_tell_runs_apart(tmp_path: Path) -> None:
    for peak in (0.5, 0.2):
        for seed in (0, 1):
            rate = {"scheduler.learning_rate.peak": peak, "scheduler.learning_rate.initial": 0.1}
            write(tmp_path, NORMS, scheduler="warmup_increase", seed=seed, settings=rate)
    found = group(runs(tmp_path))
    assert [part.label for part in found] == [
        "(iv) warm-up constant, peak 0.2", "(iv) warm-up constant, peak 0.5",
    ]  # fmt: skip
    assert [part.seeds for part in found] == [[0, 1], [0, 1]]


def test_any_setting_groups(tmp_path: Path) -> None:
    for peak in (1.0, 0.2, 0.5, None):
        write(tmp_path, NORMS, settings={"scheduler.learning_rate.peak": peak})
    found = group(runs(tmp_path), ["scheduler.learning_rate.peak"])
    assert [part.label for part in found] == [
        "learning_rate.peak = 0.2", "learning_rate.peak = 0.5", "learning_rate.peak = 1.0",
        "learning_rate.peak = not set",
    ]  # fmt: skip
    two = group(runs(tmp_path), ["scheduler.name", "scheduler.learning_rate.peak"])
    assert two[0].name == "scheduler.name=decay_constant, scheduler.learning_rate.peak=0.2"


def test_runs_are_paired_with_their_like(tmp_path: Path) -> None:
    """Grouped by the peak, the two schedulers of a seed are two pairs, and one seed."""
    ratios = {("decay_increase", 0): 2, ("warmup_increase", 0): 4, ("decay_increase", 1): 3}
    for (name, seed), ratio in ratios.items():
        for peak, factor in ((0.2, 1), (0.5, ratio)):
            write(tmp_path, [1.0, 0.6 / factor], scheduler=name, seed=seed,
                  settings={"scheduler.learning_rate.peak": peak})  # fmt: skip
    found = compared(tmp_path, "scheduler.learning_rate.peak")
    assert found.groups[0].mixed[-1] == "scheduler.name"
    duel = found.axes["epochs"].duel
    assert duel is not None
    assert duel.count == 2
    # within seed 0 the two are averaged: (0.6 / 2 + 0.6 / 4) / 2 against 0.6
    assert duel.ratio == pytest.approx((0.375 * (1 / 3)) ** 0.5)


def test_a_repetition_is_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path, NORMS)
    write(tmp_path, NORMS, settings={"measure.variance": True})
    groups, repeated = split(runs(tmp_path), ["scheduler"])
    assert len(groups[0].runs) == 1
    assert "repeats" in repeated[0].reason


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [("yardstick", "measure.chunk", 64), ("data", "dataset.name", "mnist"),
     ("model", "model.name", "cnn"), ("budget", "epochs", 9),
     ("optimizer", "optimizer.momentum", 0.9), ("arithmetic", "precision", "bf16")],
)  # fmt: skip
def test_what_must_be_shared(tmp_path: Path, kind: str, setting: str, value: object) -> None:
    write(tmp_path, NORMS)
    write(tmp_path, NORMS, seed=1, settings={setting: value})
    found = runs(tmp_path)
    with pytest.raises(UsageError, match=rf"{kind}: {setting} is .* or .*--mix {kind}"):
        comparable(found)
    comparable(found, mix=[kind])
    comparable(found, by=[setting])
    comparable(select_runs(found, [f"{setting}={value}"]))


def test_where_batch_norm_is_synchronised_matters_with_batch_norm_alone(tmp_path: Path) -> None:
    for norm in ("none", "batch"):
        for together in (False, True):
            write(tmp_path / norm, NORMS, settings={
                "model.norm": norm, "hardware.sync_batch_norm": together})  # fmt: skip
    comparable(runs(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"arithmetic: hardware\.sync_batch_norm"):
        comparable(runs(tmp_path / "batch"))


def test_how_batches_are_split_matters_with_batch_norm_alone(tmp_path: Path) -> None:
    for norm in ("none", "batch"):
        for size in (None, 64):
            write(tmp_path / norm, NORMS, settings={
                "model.norm": norm, "hardware.micro_batch": size})  # fmt: skip
    comparable(runs(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"arithmetic: hardware\.micro_batch"):
        comparable(runs(tmp_path / "batch"))


def test_where_takes_several_values(tmp_path: Path) -> None:
    for seed in range(4):
        write(tmp_path, NORMS, seed=seed, settings={"model.widths": [8, seed]})
    found = runs(tmp_path)
    assert [run.state.seed for run in select_runs(found, ["seed=1,3"])] == [1, 3]
    assert [run.state.seed for run in select_runs(found, ["model.widths=[8, 2]"])] == [2]
    assert select_runs(found, ["model.name=@x"]) == select_runs(found, ["model.name={"]) == []
    assert len(select_runs(found, ["model.name=@x,mlp"])) == 4
    with pytest.raises(UsageError, match="no run has a setting sed; there are seed"):
        select_runs(found, ["sed=1"])
    with pytest.raises(UsageError, match="give NAME=VALUE"):
        select_runs(found, ["seed"])


def test_what_did_not_end_well_is_left_out_by_rule(tmp_path: Path) -> None:
    write(tmp_path, NORMS)
    write(tmp_path, NORMS, seed=1, status="diverged", message="the loss is nan")
    write(tmp_path, NORMS, seed=2, status="interrupted", epoch=1)
    write(tmp_path, [None, None, None], seed=3)
    kept, out = completed_runs(runs(tmp_path))
    assert [run.state.seed for run in kept] == [0]
    assert sorted(left.reason for left in out) == [
        "diverged (the loss is nan)", "interrupted (1 of 2 epochs)", "no finite norm measured",
    ]  # fmt: skip


def test_the_norm_at_equal_cost(tmp_path: Path) -> None:
    """Fewer steps an epoch: at equal steps more epochs, and the other way round for seconds."""
    write(tmp_path, [1.0, 0.8, 0.9, 0.1], steps=10, seconds=3)
    write(tmp_path, [1.0, 0.7, 0.5, 0.4], steps=25, scheduler="warmup_increase", seconds=1)
    constant, warmup = (part.runs[0] for part in group(runs(tmp_path)))
    both = [constant, warmup]
    assert [common_budget(both, axis) for axis in ("epochs", "steps", "examples", "seconds")] == [
        3, 30, 300, 3.5,
    ]  # fmt: skip
    assert [norm_at(run, "epochs", 3) for run in both] == [0.1, 0.4]
    assert [norm_at(run, "steps", 30) for run in both] == [0.1, 0.7]
    assert [norm_at(run, "seconds", 3.5) for run in both] == [0.8, 0.4]
    assert norm_at(constant, "seconds", 0.1) == 1.0


def test_a_curve_of_seeds_measured_alike(tmp_path: Path) -> None:
    write(tmp_path, [1.0, 0.4, 0.6], seconds=1)
    write(tmp_path, [2.0, 0.8, 0.2], seconds=3, seed=1)
    (part,) = group(runs(tmp_path))
    raw = curve(part, "full_gradient_norm", "steps")
    assert raw.x.tolist() == [0, 10, 20]
    assert raw.mean.tolist() == pytest.approx([1.5, 0.6, 0.4])
    lowest = curve(part, "full_gradient_norm", "seconds", minimum=True)
    assert lowest.x.tolist() == [0.5, 2.5, 4.5]
    assert lowest.mean.tolist() == pytest.approx([1.5, 0.6, 0.3])
    assert (lowest.lowest.tolist(), lowest.highest.tolist()) == ([1, 0.4, 0.2], [2, 0.8, 0.4])


def test_a_curve_of_runs_measured_at_other_places(tmp_path: Path) -> None:
    """Each keeps its value until its next; the curve ends where the first of them ends."""
    write(tmp_path, [1.0, 0.4, 0.2], steps=10)
    write(tmp_path, [2.0, 0.8, 0.6], steps=15, settings={"scheduler.batch_size.growth": 2})
    (part,) = group(runs(tmp_path), ["scheduler.name"])
    found = curve(part, "full_gradient_norm", "steps")
    assert found.x.tolist() == [0, 10, 15, 20]
    assert found.mean.tolist() == pytest.approx([1.5, 1.2, 0.6, 0.5])
