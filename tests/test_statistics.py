"""Statistics against values computed by hand, by counting every case, and by SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from accelerando.compare.statistics import ENOUGH, Paired, interval, paired, summaries

VALUES = np.array([1.0, 2.0, 4.0, 5.0])


def pair(first: list[float], second: list[float]) -> Paired:
    found = paired(np.array(first), np.array(second))
    assert found is not None
    return found


def test_a_summary_by_hand() -> None:
    (found,) = summaries(VALUES[None])
    assert (found.count, found.mean, found.median) == (4, 3.0, 3.0)
    assert (found.lowest, found.highest) == (1.0, 5.0)
    assert found.lowest <= found.low < 3 < found.high <= found.highest


def tail_by_hand(count: int) -> float:
    """Where the bootstrap's normal law ends as Student's interval does."""
    spread = stats.t.ppf(0.975, count - 1) / math.sqrt((count - 1) / count)
    return float(stats.norm.cdf(-spread))


def test_the_interval_is_that_of_all_resamples() -> None:
    """Every one of the n^n resamples of a few seeds, counted."""
    for values in (VALUES, np.array([0.3, 0.1, 0.7, 0.2, 0.9])):
        every = [np.mean(choice) for choice in itertools.product(values, repeat=len(values))]
        low, high = interval(values)
        width, tail = np.ptp(values), tail_by_hand(len(values))
        assert float(low) == pytest.approx(np.quantile(every, tail), abs=0.03 * width)
        assert float(high) == pytest.approx(np.quantile(every, 1 - tail), abs=0.03 * width)


def test_the_interval_is_scipys() -> None:
    samples = np.random.default_rng(1).lognormal(size=(3, 20))
    low, high = interval(samples)
    theirs = stats.bootstrap((samples,), np.mean, axis=-1, method="percentile", n_resamples=20_000,
                             confidence_level=1 - 2 * tail_by_hand(20),
                             rng=np.random.default_rng(2)).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert (np.abs(low - theirs.low) < 0.05 * width).all()
    assert (np.abs(high - theirs.high) < 0.05 * width).all()


@pytest.mark.parametrize(("count", "least"), [(5, 0.9), (6, 0.91), (10, 0.93), (30, 0.93)])
def test_the_interval_holds_what_it_says(count: int, least: float) -> None:
    """Of many samples from a known law, about 95 % of the intervals hold its mean."""
    samples = np.random.default_rng(0).normal(3, 1, size=(1000, count))
    low, high = interval(samples)
    assert least < float(((low < 3) & (high > 3)).mean()) < 0.97


def test_an_interval_is_the_same_every_time_and_none_of_one_seed() -> None:
    assert interval(VALUES) == interval(VALUES)
    assert np.isnan(interval(np.array([[1.0]]))).all()


def test_a_pair_by_hand() -> None:
    found = pair([1, 2, 3], [2, 8, 3])
    assert found.count == 3
    assert found.difference == pytest.approx((-1 - 6 + 0) / 3)
    assert found.ratio == pytest.approx((1 / 2 * 1 / 4 * 1) ** (1 / 3))
    assert (found.wins, found.ties) == (2, 1)
    assert found.probability == pytest.approx(2.5 / 3)


def test_a_constant_ratio_has_no_spread() -> None:
    found = pair([1, 2, 3, 4], [2, 4, 6, 8])
    assert (found.ratio_low, found.ratio, found.ratio_high) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize("count", [2, 3, 5, 6, 8])
def test_the_sign_flip_test_counts_all_flips(count: int) -> None:
    generator = np.random.default_rng(count)
    first, second = generator.lognormal(size=(2, count))
    logs = np.log(first / second)
    flips = [np.mean(logs * signs) for signs in itertools.product((1, -1), repeat=count)]
    by_hand = np.mean([abs(value) >= abs(logs.mean()) - 1e-12 for value in flips])
    assert pair(list(first), list(second)).p_value == pytest.approx(by_hand)


def test_the_sign_flip_test_is_scipys_for_many_seeds() -> None:
    logs = np.random.default_rng(3).normal(0.12, 0.5, size=40)
    theirs = stats.permutation_test((logs,), np.mean, permutation_type="samples", axis=-1,
                                    vectorized=True, n_resamples=20_000,
                                    rng=np.random.default_rng(4))  # fmt: skip
    found = pair(list(np.exp(logs)), [1.0] * 40)
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.02)


@pytest.mark.parametrize(("wins", "count"), [(0, 4), (1, 4), (3, 7), (10, 10), (13, 40)])
def test_the_interval_of_a_probability_is_scipys(wins: int, count: int) -> None:
    found = pair([1.0] * wins + [3.0] * (count - wins), [2.0] * count)
    theirs = stats.binomtest(wins, count).proportion_ci(0.95, method="exact")
    assert found.probability_low == pytest.approx(theirs.low)
    assert found.probability_high == pytest.approx(theirs.high)


def test_how_few_seeds_are_too_few() -> None:
    """If all pairs agree p is 2 / 2^n: the sixth pair brings it below 5 %."""
    for count in (1, 2, 3, 5, 6):
        found = pair([1 + k / 100 for k in range(count)], [2.0] * count)
        assert found.p_value == pytest.approx(min(1, 2 / 2**count))
        assert (found.p_value < 0.05) == (count >= ENOUGH)


def test_the_probability_has_the_exact_interval() -> None:
    """Clopper and Pearson's for 5 of 5: the lower end solves p^5 = 0.025."""
    found = pair([1, 1, 1, 1, 1], [2, 2, 2, 2, 2])
    assert found.probability == 1
    assert found.probability_low == pytest.approx(0.025 ** (1 / 5))
    assert found.probability_high == 1
    found = pair([1, 3], [2, 2])
    assert found.probability == 0.5
    assert found.probability_low == pytest.approx(1 - math.sqrt(0.975))
    assert found.probability_high == pytest.approx(math.sqrt(0.975))


def test_groups_without_a_common_seed_are_no_pair() -> None:
    assert paired(np.array([]), np.array([])) is None
