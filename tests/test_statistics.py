"""Statistics against values computed by hand, by exhaustive enumeration, and by SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from accelerando.compare.statistics import (
    MIN_PAIRS,
    PairedTest,
    bootstrap_interval,
    paired_test,
    summarize,
)

VALUES = np.array([1.0, 2.0, 4.0, 5.0])


def compare_pairs(first: list[float], second: list[float]) -> PairedTest:
    result = paired_test(np.array(first), np.array(second))
    assert result is not None
    return result


def test_a_summary_computed_by_hand() -> None:
    summary = summarize(VALUES)
    assert (summary.count, summary.mean, summary.median) == (4, 3.0, 3.0)
    assert (summary.lowest, summary.highest) == (1.0, 5.0)
    assert summary.lowest <= summary.low < 3 < summary.high <= summary.highest


def expected_tail(count: int) -> float:
    """Return the tail of the bootstrap's normal distribution beyond Student's t interval."""
    spread = stats.t.ppf(0.975, count - 1) / math.sqrt((count - 1) / count)
    return float(stats.norm.cdf(-spread))


def test_the_bootstrap_interval_agrees_with_all_resamples() -> None:
    """Compare with the quantiles of all n^n resamples of a few seeds."""
    for values in (VALUES, np.array([0.3, 0.1, 0.7, 0.2, 0.9])):
        means = [np.mean(choice) for choice in itertools.product(values, repeat=len(values))]
        low, high = bootstrap_interval(values)
        width, tail = np.ptp(values), expected_tail(len(values))
        assert float(low) == pytest.approx(np.quantile(means, tail), abs=0.03 * width)
        assert float(high) == pytest.approx(np.quantile(means, 1 - tail), abs=0.03 * width)


def test_the_bootstrap_interval_agrees_with_scipy() -> None:
    samples = np.random.default_rng(1).lognormal(size=(3, 20))
    low, high = bootstrap_interval(samples)
    scipy = stats.bootstrap((samples,), np.mean, axis=-1, method="percentile", n_resamples=20_000,
                            confidence_level=1 - 2 * expected_tail(20),
                            rng=np.random.default_rng(2)).confidence_interval  # fmt: skip
    width = scipy.high - scipy.low
    assert (np.abs(low - scipy.low) < 0.05 * width).all()
    assert (np.abs(high - scipy.high) < 0.05 * width).all()


@pytest.mark.parametrize(("count", "least"), [(5, 0.9), (6, 0.91), (10, 0.93), (30, 0.93)])
def test_the_coverage_of_the_bootstrap_interval(count: int, least: float) -> None:
    samples = np.random.default_rng(0).normal(3, 1, size=(1000, count))
    low, high = bootstrap_interval(samples)
    assert least < float(((low < 3) & (high > 3)).mean()) < 0.97


def test_the_bootstrap_interval_is_deterministic_and_undefined_for_one_seed() -> None:
    assert bootstrap_interval(VALUES) == bootstrap_interval(VALUES)
    assert np.isnan(bootstrap_interval(np.array([[1.0]]))).all()


def test_a_paired_test_computed_by_hand() -> None:
    result = compare_pairs([1, 2, 3], [2, 8, 3])
    assert result.count == 3
    assert result.difference == pytest.approx((-1 - 6 + 0) / 3)
    assert result.ratio == pytest.approx((1 / 2 * 1 / 4 * 1) ** (1 / 3))
    assert (result.wins, result.ties) == (2, 1)
    assert result.probability == pytest.approx(2.5 / 3)


def test_the_interval_of_a_constant_ratio_has_no_width() -> None:
    result = compare_pairs([1, 2, 3, 4], [2, 4, 6, 8])
    assert (result.ratio_low, result.ratio, result.ratio_high) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize("count", [2, 3, 5, 6, 8])
def test_the_sign_flip_test_enumerates_all_flips(count: int) -> None:
    generator = np.random.default_rng(count)
    first, second = generator.lognormal(size=(2, count))
    logs = np.log(first / second)
    flips = [np.mean(logs * signs) for signs in itertools.product((1, -1), repeat=count)]
    expected = np.mean([abs(value) >= abs(logs.mean()) - 1e-12 for value in flips])
    assert compare_pairs(list(first), list(second)).p_value == pytest.approx(expected)


def test_the_sign_flip_test_agrees_with_scipy_for_many_seeds() -> None:
    logs = np.random.default_rng(3).normal(0.12, 0.5, size=40)
    scipy = stats.permutation_test((logs,), np.mean, permutation_type="samples", axis=-1,
                                   vectorized=True, n_resamples=20_000,
                                   rng=np.random.default_rng(4))  # fmt: skip
    result = compare_pairs(list(np.exp(logs)), [1.0] * 40)
    assert result.p_value == pytest.approx(scipy.pvalue, abs=0.02)


@pytest.mark.parametrize(("wins", "count"), [(0, 4), (1, 4), (3, 7), (10, 10), (13, 40)])
def test_the_interval_of_a_probability_agrees_with_scipy(wins: int, count: int) -> None:
    result = compare_pairs([1.0] * wins + [3.0] * (count - wins), [2.0] * count)
    scipy = stats.binomtest(wins, count).proportion_ci(0.95, method="exact")
    assert result.probability_low == pytest.approx(scipy.low)
    assert result.probability_high == pytest.approx(scipy.high)


def test_six_pairs_are_needed_for_significance() -> None:
    """If all pairs agree, p is 2 / 2^n, which is below 5 % from six pairs on."""
    for count in (1, 2, 3, 5, 6):
        result = compare_pairs([1 + k / 100 for k in range(count)], [2.0] * count)
        assert result.p_value == pytest.approx(min(1, 2 / 2**count))
        assert (result.p_value < 0.05) == (count >= MIN_PAIRS)


def test_the_interval_of_a_probability_computed_by_hand() -> None:
    """For 5 wins of 5 the lower end of Clopper and Pearson's interval solves p^5 = 0.025."""
    result = compare_pairs([1, 1, 1, 1, 1], [2, 2, 2, 2, 2])
    assert result.probability == 1
    assert result.probability_low == pytest.approx(0.025 ** (1 / 5))
    assert result.probability_high == 1
    result = compare_pairs([1, 3], [2, 2])
    assert result.probability == 0.5
    assert result.probability_low == pytest.approx(1 - math.sqrt(0.975))
    assert result.probability_high == pytest.approx(math.sqrt(0.975))


def test_there_is_no_paired_test_without_common_seeds() -> None:
    assert paired_test(np.array([]), np.array([])) is None
