"""How runs are grouped, named and paired."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelerando.compare.groups import group_runs
from synthetic_runs import compare_runs, load, load_groups, write_run

NORMS = [1.0, 0.5, 0.2]


def test_the_cases_of_the_paper_come_first_with_their_labels(tmp_path: Path) -> None:
    for name in ("zeta", "warmup_increase", "alpha", "decay_constant"):
        write_run(tmp_path, NORMS, scheduler=name)
    groups = load_groups(tmp_path)
    assert [group.name for group in groups] == [
        "decay_constant", "warmup_increase", "alpha", "zeta"
    ]  # fmt: skip
    assert [group.label for group in groups[:2]] == [
        "(i) constant batch, decaying rate", "(iv) increasing batch, warm-up rate",
    ]  # fmt: skip


def test_variants_of_a_case_are_distinguished_by_their_shape(tmp_path: Path) -> None:
    key = "scheduler.learning_rate._target_"
    write_run(tmp_path, NORMS)
    for shape in ("Polynomial", "Linear"):
        write_run(tmp_path, NORMS, settings={key: f"accelerando.schedule.{shape}"})
    groups = load_groups(tmp_path)
    assert [group.name for group in groups] == [
        "decay_constant", "decay_constant Linear", "decay_constant Polynomial",
    ]  # fmt: skip
    assert [group.label for group in groups] == [
        "(i) constant batch, decaying rate", "(i) linear", "(i) polynomial",
    ]  # fmt: skip


def test_labels_contain_the_settings_that_distinguish_groups(tmp_path: Path) -> None:
    for peak in (0.5, 0.2):
        for seed in (0, 1):
            rate = {"scheduler.learning_rate.peak": peak, "scheduler.learning_rate.initial": 0.1}
            write_run(tmp_path, NORMS, scheduler="warmup_increase", seed=seed, settings=rate)
    groups = load_groups(tmp_path)
    assert [group.label for group in groups] == [
        "(iv) warm-up constant, peak 0.2", "(iv) warm-up constant, peak 0.5",
    ]  # fmt: skip
    assert [group.seeds for group in groups] == [[0, 1], [0, 1]]


def test_runs_can_be_grouped_by_any_setting(tmp_path: Path) -> None:
    for peak in (1.0, 0.2, 0.5, None):
        write_run(tmp_path, NORMS, settings={"scheduler.learning_rate.peak": peak})
    groups = load_groups(tmp_path, "scheduler.learning_rate.peak")
    assert [group.label for group in groups] == [
        "learning_rate.peak = 0.2", "learning_rate.peak = 0.5", "learning_rate.peak = 1.0",
        "learning_rate.peak = not set",
    ]  # fmt: skip
    groups = load_groups(tmp_path, "scheduler.name", "scheduler.learning_rate.peak")
    assert groups[0].name == "scheduler.name=decay_constant, scheduler.learning_rate.peak=0.2"


def test_runs_are_paired_by_seed_and_by_the_settings_that_differ_within_groups(
    tmp_path: Path,
) -> None:
    """Grouped by the peak, two schedulers with the same seed are two pairs, but one seed."""
    ratios = {("decay_increase", 0): 2, ("warmup_increase", 0): 4, ("decay_increase", 1): 3}
    for (name, seed), ratio in ratios.items():
        for peak, factor in ((0.2, 1), (0.5, ratio)):
            write_run(tmp_path, [1.0, 0.6 / factor], scheduler=name, seed=seed,
                      settings={"scheduler.learning_rate.peak": peak})  # fmt: skip
    comparison = compare_runs(tmp_path, "scheduler.learning_rate.peak")
    assert comparison.groups[0].mixed[-1] == "scheduler.name"
    test = comparison.axes["epochs"].best_vs_second
    assert test is not None
    assert test.count == 2
    # the norms of seed 0 are averaged first: (0.6 / 2 + 0.6 / 4) / 2 against 0.6
    assert test.ratio == pytest.approx((0.375 * (1 / 3)) ** 0.5)


def test_a_duplicate_is_excluded_with_the_reason(tmp_path: Path) -> None:
    write_run(tmp_path, NORMS)
    write_run(tmp_path, NORMS, settings={"measure.variance": True})
    (group,), (duplicate,) = group_runs(load(tmp_path))
    assert len(group.runs) == 1
    assert duplicate.reason == f"duplicates {group.runs[0].path}"


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param([100, 100, 100, 100], id="other budgets"),
        # the second group has the length of the first for one seed only
        pytest.param([100, 100, 100, 33], id="partly the same budget"),
    ],
)
def test_seeds_pair_whatever_the_budgets(lengths: list[int], tmp_path: Path) -> None:
    for seed, length in enumerate(lengths):
        write_run(tmp_path, [1.0, 0.2], seed=seed, settings={"epochs": 33})
        write_run(tmp_path, [1.0, 0.1], seed=seed, settings={"epochs": length},
                  scheduler="warmup_increase")  # fmt: skip
    test = compare_runs(tmp_path).axes["epochs"].best_vs_second
    assert test is not None
    assert (test.count, test.wins) == (4, 4)


def test_seeds_pair_if_no_settings_agree(tmp_path: Path) -> None:
    """One group has runs of 10 and 33 epochs, the other of 100."""
    for seed in range(3):
        for epochs, norm in ((10, 0.4), (33, 0.2)):
            write_run(tmp_path, [1.0, norm], seed=seed, settings={"epochs": epochs})
        write_run(tmp_path, [1.0, 0.1], seed=seed, settings={"epochs": 100},
                  scheduler="warmup_increase")  # fmt: skip
    test = compare_runs(tmp_path).axes["epochs"].best_vs_second
    assert test is not None
    assert (test.count, test.wins) == (3, 3)
    assert test.difference == pytest.approx(0.1 - 0.3)
