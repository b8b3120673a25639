"""Costs of thresholds and speed-ups, against values computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from accelerando.compare.statistics import lower_bound
from accelerando.compare.thresholds import (
    Speedup,
    costs_to_reach,
    default_thresholds,
    group_costs,
    speedups,
    times_to_target,
)
from accelerando.runs.folder import Status
from synthetic_runs import compare_runs, load, load_groups, write_run


def test_the_cost_is_where_the_threshold_was_first_reached(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0, 0.5, 0.7, 0.2, 0.3], steps=10, seconds=2)
    (run,) = load(tmp_path)
    thresholds = [2.0, 0.6, 0.5, 0.3, 0.2, 0.1]
    costs = {axis: costs_to_reach(run, axis, thresholds).tolist() for axis in
             ("epochs", "steps", "examples", "seconds")}  # fmt: skip
    assert costs["epochs"] == [1, 1, 1, 3, 3, math.inf]
    assert costs["steps"] == [10, 10, 10, 30, 30, math.inf]
    assert costs["examples"] == [100, 100, 100, 300, 300, math.inf]
    assert costs["seconds"] == [2.5, 2.5, 2.5, 6.5, 6.5, math.inf]


def test_a_norm_that_is_nan_reaches_no_threshold(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0, None, 0.4])
    (run,) = load(tmp_path)
    assert costs_to_reach(run, "epochs", [0.5]).tolist() == [2]


def test_costs_over_seeds_some_of_which_are_censored(tmp_path: Path) -> None:
    for seed, norms in enumerate(([1, 0.1, 0.1], [1, 0.5, 0.1], [1, 0.5, 0.5])):
        write_run(tmp_path, norms, seed=seed)
    (group,) = load_groups(tmp_path)
    thresholds = [0.5, 0.1, 0.01]
    times = times_to_target(group_costs(group, "epochs", thresholds), thresholds)
    assert [time.reached for time in times] == [3, 2, 0]
    assert [time.median for time in times] == [1, 2, math.inf]
    assert [(time.lowest, time.highest) for time in times[:2]] == [(1, 1), (1, math.inf)]
    assert [time.ended for time in times] == [math.inf, 2, 2]


def test_costs_are_averaged_within_a_seed(tmp_path: Path) -> None:
    """Two runs of seed 0 take 1 and 3 epochs, one of seed 1 takes 4: 2 and 4."""
    for name, seed, arrival in (("mine", 0, 1), ("yours", 0, 3), ("mine", 1, 4)):
        norms = [1.0] * arrival + [0.1] * (6 - arrival)
        write_run(tmp_path, norms, scheduler=name, seed=seed)
    (group,) = load_groups(tmp_path, "optimizer.momentum")
    (time,) = times_to_target(group_costs(group, "epochs", [0.5]), [0.5])
    assert (time.median, time.lowest, time.highest) == (3, 2, 4)
    assert (time.runs, time.reached) == (3, 3)


def speedup(
    tmp_path: Path, own: list[list[float]], other: list[list[float]], threshold: float
) -> Speedup:
    """Return the speed-up of runs with norms ``own`` over runs with norms ``other``."""
    for name, records in (("decay_constant", other), ("warmup_increase", own)):
        for seed, norms in enumerate(records):
            write_run(tmp_path, norms, scheduler=name, seed=seed)
    costs = [group_costs(group, "epochs", [threshold]) for group in load_groups(tmp_path)]
    return speedups(costs[1], costs[0], [threshold])[0]


def test_a_speedup_is_a_geometric_mean_over_seeds(tmp_path: Path) -> None:
    result = speedup(tmp_path, [[1, 0.1, 0.1, 0.1, 0.1]] * 2,
                     [[1, 1, 0.1, 0.1, 0.1], [1, 1, 1, 1, 0.1]], 0.1)  # fmt: skip
    assert result.factor == pytest.approx(math.sqrt(2 * 4))
    assert (result.bound, result.pairs, result.censored) == ("exact", 2, 0)
    assert (result.low, result.high) == (pytest.approx(2), pytest.approx(4))


def test_a_censored_reference_gives_a_confidence_bound(tmp_path: Path) -> None:
    """All six pairs are at least 2, so the smallest is below their median with 98 %."""
    own = [[1, 0.1, 0.1]] * 6
    result = speedup(tmp_path, own, [[1, 1, 0.1], *[[1, 1, 1]] * 5], 0.1)
    assert (result.factor, result.bound, result.censored) == (pytest.approx(2), "at least", 5)
    assert math.isnan(result.low)


def test_a_censored_group_gives_an_upper_bound(tmp_path: Path) -> None:
    result = speedup(tmp_path, [[1, 1, 1]] * 6, [[1, 0.1, 0.1]] * 6, 0.1)
    assert (result.factor, result.bound) == (pytest.approx(1 / 2), "at most")
    assert math.isnan(result.low)


def test_five_seeds_give_no_bound(tmp_path: Path) -> None:
    result = speedup(tmp_path, [[1, 0.1, 0.1]] * 5, [[1, 1, 1]] * 5, 0.1)
    assert (result.bound, result.pairs, result.censored) == ("unknown", 5, 5)


@pytest.mark.parametrize("failed", ["decay_constant", "warmup_increase"])
def test_a_group_that_failed_has_no_speedup(failed: str, tmp_path: Path) -> None:
    for seed in range(8):
        for name in ("decay_constant", "warmup_increase"):
            status = Status.DIVERGED if name == failed else Status.FINISHED
            write_run(tmp_path, [1, 0.1, 0.1], scheduler=name, seed=seed, status=status)
    costs = [group_costs(group, "epochs", [0.1]) for group in load_groups(tmp_path)]
    result = speedups(costs[1], costs[0], [0.1])[0]
    assert (result.bound, math.isnan(result.factor)) == ("unknown", True)


def test_a_norm_before_training_reaches_no_threshold(tmp_path: Path) -> None:
    write_run(tmp_path, [0.05, 0.5, 0.1])
    (run,) = load(tmp_path)
    assert costs_to_reach(run, "seconds", [0.1, 0.06]).tolist() == [2.5, math.inf]


def test_a_failed_reference_never_reaches_a_threshold(tmp_path: Path) -> None:
    for seed in range(6):
        write_run(tmp_path, [1, 0.1, 0.1], scheduler="warmup_increase", seed=seed)
        diverged = Status.DIVERGED if seed == 0 else Status.FINISHED
        write_run(tmp_path, [1, 0.05, 0.1], seed=seed, status=diverged)
    costs = [group_costs(group, "epochs", [0.1]) for group in load_groups(tmp_path)]
    (time,) = times_to_target(costs[0], [0.1])
    assert (time.reached, time.highest) == (5, math.inf)
    assert speedups(costs[1], costs[0], [0.1])[0].bound == "unknown"  # the bound of the median is 1


@pytest.mark.parametrize("seeds", [6, 8, 13, 20])
def test_coverage_of_the_bound_on_censored_speedups(seeds: int) -> None:
    """True median 1.5; costs are censored at a budget, and the lower end misses in 2.5 %."""
    random = np.random.default_rng(seeds)
    trials = 2000
    own = np.exp(random.normal(0, 0.5, (trials, seeds)))
    other = own * 1.5 * np.exp(random.normal(0, 0.7, (trials, seeds)))
    budget = 2.0
    ratios = np.where(own < budget, np.minimum(other, budget) / own, 0)
    bounds = np.array([lower_bound(row) for row in ratios])
    missed = float((bounds > 1.5).mean())
    assert missed <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / trials)
    uncensored = np.array([lower_bound(row) for row in other / own])
    assert (uncensored > 1.5).mean() > 0.003  # and it is not merely cautious


@pytest.mark.parametrize("own", [[[1, 1, 1], [1, 1, 1]], [[1, 1, 1], [1, 0.1, 0.1]]])
def test_the_speedup_is_unknown_if_both_groups_are_censored(
    tmp_path: Path, own: list[list[float]]
) -> None:
    result = speedup(tmp_path, own, [[1, 0.1, 0.1], [1, 1, 1]], 0.1)
    assert result.bound == "unknown"
    assert math.isnan(result.factor)


def test_only_common_seeds_count(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, [1, 1, 0.1], seed=seed)
    for seed in (1, 2):
        write_run(tmp_path, [1, 0.1, 0.1], scheduler="warmup_increase", seed=seed)
    (result,) = compare_runs(tmp_path, thresholds=[0.1]).axes["steps"].results[1].speedups
    assert (result.pairs, result.factor) == (1, pytest.approx(2))


def test_groups_without_common_seeds_have_no_speedup(tmp_path: Path) -> None:
    write_run(tmp_path, [1, 1, 0.1])
    write_run(tmp_path, [1, 0.1, 0.1], scheduler="warmup_increase", seed=1)
    (result,) = compare_runs(tmp_path, thresholds=[0.1]).axes["steps"].results[1].speedups
    assert (result.pairs, result.bound) == (0, "unknown")


def test_runs_of_one_seed_count_once(tmp_path: Path) -> None:
    """Grouped by the peak: two pairs of seed 0 with factors 2 and 8, and one of seed 1 with 3."""
    for name, seed, factor in (("mine", 0, 2), ("yours", 0, 8), ("mine", 1, 3)):
        for peak, arrival in ((0.2, factor), (0.5, 1)):
            norms = [1.0] * arrival + [0.1] * (9 - arrival)
            write_run(tmp_path, norms, scheduler=name, seed=seed,
                      settings={"scheduler.learning_rate.peak": peak})  # fmt: skip
    comparison = compare_runs(tmp_path, "scheduler.learning_rate.peak", thresholds=[0.1])
    (result,) = comparison.axes["epochs"].results[1].speedups
    assert result.pairs == 2
    assert result.factor == pytest.approx(math.sqrt(4 * 3))
    assert (result.low, result.high) == (pytest.approx(3), pytest.approx(4))


def test_default_thresholds_are_round_and_within_the_range_of_the_norms(tmp_path: Path) -> None:
    write_run(tmp_path, np.geomspace(0.9, 0.012, 5).tolist())
    assert default_thresholds(load_groups(tmp_path)) == [0.5, 0.2, 0.1, 0.05, 0.02]
    write_run(tmp_path, np.geomspace(0.9, 0.00001, 5).tolist(), seed=1)
    thresholds = default_thresholds(load_groups(tmp_path))
    assert (thresholds[0], thresholds[-1], len(thresholds)) == (0.5, 1e-05, 6)


def test_default_thresholds_are_finer_in_a_short_range(tmp_path: Path) -> None:
    for name, norms, thresholds in (
        ("a", [0.9, 0.65], [0.8, 0.7]),
        ("b", [0.88, 0.85], [0.87, 0.86, 0.85]),
        ("c", [0.9, 0.95], []),
    ):
        write_run(tmp_path / name, norms)
        assert default_thresholds(load_groups(tmp_path / name)) == thresholds
