"""Costs of levels and speed-ups against values worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from accelerando.compare.groups import group
from accelerando.compare.thresholds import (
    SpeedUp,
    costs,
    group_costs,
    levels,
    speed_ups,
    times_to_target,
)
from made_runs import compared, runs, write


def test_the_cost_is_where_the_level_was_first_measured(tmp_path: Path) -> None:
    write(tmp_path, [1.0, 0.5, 0.7, 0.2, 0.3], steps=10, seconds=2)
    (run,) = runs(tmp_path)
    asked = [2.0, 0.6, 0.5, 0.3, 0.2, 0.1]
    assert costs(run, "epochs", asked).tolist() == [0, 1, 1, 3, 3, math.inf]
    assert costs(run, "steps", asked).tolist() == [0, 10, 10, 30, 30, math.inf]
    assert costs(run, "examples", asked).tolist() == [0, 100, 100, 300, 300, math.inf]
    assert costs(run, "seconds", asked).tolist() == [0.5, 2.5, 2.5, 6.5, 6.5, math.inf]


def test_a_measurement_that_is_no_number_reaches_nothing(tmp_path: Path) -> None:
    write(tmp_path, [1.0, None, 0.4])
    (run,) = runs(tmp_path)
    assert costs(run, "epochs", [0.5]).tolist() == [2]


def test_costs_over_seeds_with_some_that_never_arrive(tmp_path: Path) -> None:
    for seed, norms in enumerate(([1, 0.1, 0.1], [1, 0.5, 0.1], [1, 0.5, 0.5])):
        write(tmp_path, norms, seed=seed)
    (part,) = group(runs(tmp_path))
    found = times_to_target(group_costs(part, "epochs", [0.5, 0.1, 0.01]), [0.5, 0.1, 0.01])
    assert [reach.reached for reach in found] == [3, 2, 0]
    assert [reach.median for reach in found] == [1, 2, math.inf]
    assert [(reach.lowest, reach.highest) for reach in found[:2]] == [(1, 1), (1, math.inf)]
    assert [reach.ended for reach in found] == [math.inf, 2, 2]


def test_costs_are_averaged_within_a_seed(tmp_path: Path) -> None:
    """Two runs of seed 0 that take 1 and 3 epochs, one of seed 1 that takes 4: 2 and 4."""
    for name, seed, arrival in (("mine", 0, 1), ("yours", 0, 3), ("mine", 1, 4)):
        norms = [1.0] * arrival + [0.1] * (6 - arrival)
        write(tmp_path, norms, scheduler=name, seed=seed)
    (part,) = group(runs(tmp_path), ["optimizer.momentum"])
    (found,) = times_to_target(group_costs(part, "epochs", [0.5]), [0.5])
    assert (found.median, found.lowest, found.highest) == (3, 2, 4)
    assert (found.runs, found.reached) == (3, 3)


def speed(
    tmp_path: Path, own: list[list[float]], other: list[list[float]], level: float
) -> SpeedUp:
    for name, records in (("decay_constant", other), ("warmup_increase", own)):
        for seed, norms in enumerate(records):
            write(tmp_path, norms, scheduler=name, seed=seed)
    reference, quicker = (group_costs(part, "epochs", [level]) for part in group(runs(tmp_path)))
    return speed_ups(quicker, reference, [level])[0]


def test_a_speed_up_is_the_geometric_mean_over_seeds(tmp_path: Path) -> None:
    found = speed(tmp_path, [[1, 0.1, 0.1, 0.1, 0.1]] * 2,
                  [[1, 1, 0.1, 0.1, 0.1], [1, 1, 1, 1, 0.1]], 0.1)  # fmt: skip
    assert found.factor == pytest.approx(math.sqrt(2 * 4))
    assert (found.bound, found.pairs, found.censored) == ("exact", 2, 0)
    assert (found.low, found.high) == (pytest.approx(2), pytest.approx(4))


def test_a_reference_that_never_arrives_gives_a_lower_bound(tmp_path: Path) -> None:
    found = speed(tmp_path, [[1, 0.1, 0.1]] * 2, [[1, 1, 0.1], [1, 1, 1]], 0.1)
    assert (found.factor, found.bound, found.censored) == (pytest.approx(2), "at least", 1)
    assert math.isnan(found.high)
    assert not math.isnan(found.low)


def test_a_group_that_never_arrives_gives_an_upper_bound(tmp_path: Path) -> None:
    found = speed(tmp_path, [[1, 1, 1]] * 2, [[1, 0.1, 0.1]] * 2, 0.1)
    assert (found.factor, found.bound) == (pytest.approx(1 / 2), "at most")
    assert math.isnan(found.low)


@pytest.mark.parametrize("own", [[[1, 1, 1], [1, 1, 1]], [[1, 1, 1], [1, 0.1, 0.1]]])
def test_where_both_may_be_censored_nothing_is_known(
    tmp_path: Path, own: list[list[float]]
) -> None:
    found = speed(tmp_path, own, [[1, 0.1, 0.1], [1, 1, 1]], 0.1)
    assert found.bound == "unknown"
    assert math.isnan(found.factor)


def test_only_common_seeds_count(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path, [1, 1, 0.1], seed=seed)
    for seed in (1, 2):
        write(tmp_path, [1, 0.1, 0.1], scheduler="warmup_increase", seed=seed)
    first = compared(tmp_path, thresholds=[0.1]).axes["steps"].standings[1].speed_up[0]
    assert (first.pairs, first.factor) == (1, pytest.approx(2))


def test_runs_of_one_seed_count_as_one(tmp_path: Path) -> None:
    """Grouped by the peak: two pairs in seed 0, with factors 2 and 8, and one in seed 1, with 3."""
    for name, seed, factor in (("mine", 0, 2), ("yours", 0, 8), ("mine", 1, 3)):
        for peak, arrival in ((0.2, factor), (0.5, 1)):
            norms = [1.0] * arrival + [0.1] * (9 - arrival)
            write(tmp_path, norms, scheduler=name, seed=seed,
                  settings={"scheduler.learning_rate.peak": peak})  # fmt: skip
    found = compared(tmp_path, "scheduler.learning_rate.peak", thresholds=[0.1])
    (speed,) = found.axes["epochs"].standings[1].speed_up
    assert speed.pairs == 2
    assert speed.factor == pytest.approx(math.sqrt(4 * 3))
    assert (speed.low, speed.high) == (pytest.approx(3), pytest.approx(4))


def test_levels_are_round_and_between_start_and_end(tmp_path: Path) -> None:
    write(tmp_path, np.geomspace(0.9, 0.012, 5).tolist())
    assert levels(group(runs(tmp_path))) == [0.5, 0.2, 0.1, 0.05, 0.02]
    write(tmp_path, np.geomspace(0.9, 0.00001, 5).tolist(), seed=1)
    found = levels(group(runs(tmp_path)))
    assert (found[0], found[-1], len(found)) == (0.5, 1e-05, 6)


def test_a_short_way_has_finer_levels_and_none_has_none(tmp_path: Path) -> None:
    write(tmp_path / "a", [0.9, 0.65])
    assert levels(group(runs(tmp_path / "a"))) == [0.8, 0.7]
    write(tmp_path / "b", [0.88, 0.85])
    assert levels(group(runs(tmp_path / "b"))) == [0.87, 0.86, 0.85]
    write(tmp_path / "c", [0.9, 0.95])
    assert levels(group(runs(tmp_path / "c"))) == []
