"""Intervals cover as often as they say, and ranks are those of scipy."""

import numpy as np
import pytest
from scipy import stats

from galfig.auditing.estimates import bootstrap, bootstrap_known, spearman


def test_the_interval_is_that_of_scipy():
    """Scipy's percentile bootstrap draws otherwise, and agrees within the noise of the draws."""
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap(values, seed=1, n_resamples=4000)
    other = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=2)
    low, high = other.confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    assert found.n == 400


def test_the_interval_covers_the_truth():
    """Of 200 samples, 95 % give an interval that holds the true mean."""
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(200):
        found = bootstrap(rng.normal(1, 1, 60), seed=seed, n_resamples=300)
        held += found.low <= 1 <= found.high
    assert 180 <= held <= 198


def test_a_ratio_of_columns_is_drawn_by_rows():
    """A ratio that is the same for every galaxy has no width."""
    column = np.random.default_rng(4).uniform(1, 2, 50)
    pairs = np.stack([column, 4 * column], axis=1)
    found = bootstrap(pairs, lambda v: v[:, 0].mean() / v[:, 1].mean(), seed=0)
    assert (found.low, found.value, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_galaxies_without_a_value_are_left_out_and_counted():
    """A galaxy whose map is constant has no correlation."""
    found = bootstrap([1.0, np.nan, 3.0], seed=0)
    assert (found.value, found.n) == (2.0, 2)
    pairs = [[1.0, 2.0], [5.0, np.nan], [3.0, 2.0]]
    assert bootstrap(pairs, lambda rows: float(rows[:, 0].mean()), seed=0).value == 2.0
    with pytest.raises(ValueError, match="no galaxy with a finite value"):
        bootstrap([np.nan], seed=0)


def test_one_seed_gives_one_interval():
    """The same galaxies and seed give the same bounds; another seed does not."""
    values = np.random.default_rng(5).normal(size=30)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_spearman_is_that_of_scipy():
    """With ties, and NaN for a constant map."""
    rng = np.random.default_rng(6)
    first, second = rng.integers(0, 5, (3, 6, 7)), rng.integers(0, 5, (3, 6, 7))
    expected = [
        stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)
    ]
    assert spearman(first, second) == pytest.approx(expected)
    assert np.isnan(spearman(np.ones((1, 4, 4)), rng.normal(size=(1, 4, 4)))).all()


def test_what_is_unknown_of_all_galaxies_has_no_estimate():
    """The other columns have theirs."""
    found = bootstrap_known({"a": [1.0, np.nan], "b": [np.nan, np.inf], "c": []}, seed=0)
    assert {name: one.value for name, one in found.items()} == {"a": 1}
