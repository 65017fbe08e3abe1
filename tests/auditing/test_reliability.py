"""Krippendorff's alpha, and what it is of."""

import numpy as np
import pytest

from galfig.auditing import reliability
from galfig.auditing.estimates import Measured
from galfig.auditing.reliability import compute_alpha, rank_columns
from galfig.auditing.sample import Sample
from galfig.errors import ConfigError


def test_alpha_is_that_of_the_package():
    """For numbers with gaps, on a scale of intervals."""
    krippendorff = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 1)) + rng.normal(size=(30, 4))
    values[rng.random(values.shape) < 0.2] = np.nan
    expected = krippendorff.alpha(values.T, level_of_measurement="interval")
    assert compute_alpha(values) == pytest.approx(expected)


def test_alpha_of_the_first_example_in_the_literature():
    """Worked by hand: three units, two measures, that differ once by one."""
    values = np.array([[1.0, 1], [2, 2], [3, 2]])
    observed = 2 * 1 / 6
    every = values.ravel()
    expected = sum((a - b) ** 2 for a in every for b in every) / 30
    assert compute_alpha(values) == pytest.approx(1 - observed / expected)
    assert compute_alpha(np.array([[1.0, 1], [5, 5]])) == 1
    assert np.isnan(compute_alpha(np.ones((3, 2))))


def test_ranks_run_from_zero_to_one():
    """Columns of other units compare; a gap stays."""
    ranks = rank_columns(np.array([[1.0, 700], [3, np.nan], [2, 900], [2, 800]]))
    assert ranks[:, 0] == pytest.approx([0, 1, 0.5, 0.5])
    assert ranks[[0, 2, 3], 1] == pytest.approx([0, 1, 0.5])
    assert np.isnan(ranks[1, 1])


def make_measures(first, second):
    return {
        "deletion": Measured(name="deletion", per_galaxy={"deletion_over_random": tuple(first)}),
        "shortcuts": Measured(name="shortcuts", per_galaxy={"outside_share": tuple(second)}),
    }


def test_scores_that_are_bad_when_high_are_turned(store):
    """Attribution outside the galaxy is bad: its order is that of the lead, turned round."""
    sample = Sample(store, (), np.arange(12), 0)
    rising = np.arange(12.0)
    found = reliability.measure(sample, measures=make_measures(rising, -rising))
    assert found.numbers["alpha"].value == pytest.approx(1)
    found = reliability.measure(sample, measures=make_measures(rising, rising))
    assert found.numbers["alpha"].high < 0
    assert "differently" in found.not_supported


def test_one_score_compares_with_nothing(store):
    """Which is said in one line."""
    sample = Sample(store, (), np.arange(12), 0)
    one = make_measures(np.arange(12.0), np.ones(12))
    with pytest.raises(ConfigError, match="1 scores of single galaxies"):
        reliability.measure(sample, measures=one)
