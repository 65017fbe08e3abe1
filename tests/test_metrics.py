"""Metrics: numbers on plain arrays, held against scikit-learn and formulas."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from galfig.metrics import (
    count_reliability,
    describe_baseline,
    describe_few,
    measure_accuracy,
    rate_accuracy,
    score,
    wilson_interval,
)


def test_score_of_two_classes_is_the_binary_area():
    """For two classes ROC AUC is scikit-learn's binary form, and accuracy counts."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    p = np.clip(0.3 + 0.4 * labels + rng.normal(0, 0.2, 200), 0.01, 0.99)
    found = score(np.stack([1 - p, p], axis=1), labels)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(labels, p))
    assert found["accuracy"] == pytest.approx(np.mean((p > 0.5) == labels))


def test_score_of_three_classes_is_one_against_the_rest():
    """Beyond two classes the areas of one against the rest are averaged."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    probs = rng.dirichlet([1, 1, 1], 300)
    probs[np.arange(300), labels] += 0.5
    probs /= probs.sum(axis=1, keepdims=True)
    areas = [roc_auc_score(labels == c, probs[:, c]) for c in range(3)]
    assert score(probs.astype(np.float32), labels)["roc_auc"] == pytest.approx(np.mean(areas))


def test_score_without_one_class_has_no_area():
    """A validation set with one class has an accuracy but no ROC AUC, and does not fail."""
    found = score(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    assert found["accuracy"] == 0.5
    assert np.isnan(found["roc_auc"])


def test_swapping_the_classes_swaps_no_metric():
    """No class is the positive one: metrics do not depend on their order."""
    rng = np.random.default_rng(0)
    labels, probs = rng.integers(0, 2, 100), rng.dirichlet([1, 1], 100)
    assert score(probs, labels) == pytest.approx(score(probs[:, ::-1], 1 - labels))


def test_reliability_counts():
    """Bins hold the galaxies of their p, and a calibrated network lies on the diagonal."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 20000)
    is_right = rng.random(20000) < p
    mean_p, n, n_right = count_reliability(p, is_right, 2)
    assert n.sum() == 20000
    assert n_right.sum() == is_right.sum()
    np.testing.assert_allclose(n_right / n, mean_p, atol=0.03)
    edge_p = np.array([0.5, 1.0])
    assert count_reliability(edge_p, np.array([True, True]), 2)[1].tolist() == [1, 1]


def test_wilson_interval_solves_its_equation():
    """One sigma of 8 out of 10, by the formula of Wilson (1927), inside [0, 1] at the ends."""
    low, high = wilson_interval(np.array([8, 0, 5]), np.array([10, 4, 5]))
    # Roots of (share - x)^2 = x (1 - x) / n.
    for share, n, a, b in zip([0.8, 0.0, 1.0], [10, 4, 5], low, high, strict=True):
        for x in (a, b):
            assert (share - x) ** 2 == pytest.approx(x * (1 - x) / n, abs=1e-12)
    assert low.min() >= 0
    assert high.max() <= 1


def test_accuracy_has_its_baselines_beside_it():
    """Those of scikit-learn and scipy; galaxies of unknown class are not counted."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, -1], 400, p=[0.6, 0.2, 0.1, 0.1])
    predicted = np.where(rng.random(400) < 0.5, np.maximum(labels, 0), rng.integers(0, 3, 400))
    known = labels >= 0
    found = measure_accuracy(predicted, labels, 3)
    assert found.n == known.sum()
    assert found.n_right == np.sum(predicted[known] == labels[known])
    assert found.accuracy == pytest.approx(accuracy_score(labels[known], predicted[known]))
    expected = balanced_accuracy_score(labels[known], predicted[known])
    assert found.balanced_accuracy == pytest.approx(expected)
    assert found.majority == 0
    assert found.majority_share == pytest.approx(np.mean(labels[known] == 0))
    test = binomtest(found.n_right, found.n, found.majority_share, alternative="greater")
    assert found.p_chance == pytest.approx(test.pvalue)
    assert measure_accuracy(predicted[~known], labels[~known], 3) is None


@pytest.mark.parametrize(
    ("n_right", "n_in_class", "expected"),
    [
        # Three classes: 73.8 % is exactly what 'always medium' gives.
        (96, [20, 96, 14], "the accuracy 0.738 on 130 galaxies is no better than a guess: always"),
        (0, [1, 0], "the accuracy 0.000 on 1 galaxies is no better than a guess: always 'a' gives"),
        (5, [3, 2], "the accuracy 1.000 on 5 galaxies may be chance (p = 0.08): always 'a' gives"),
        (90, [60, 40], ""),
        # One class alone: a guess is always right.
        (9, [9, 0], "the accuracy 1.000 on 9 galaxies is no better than a guess: always 'a'"),
    ],
)
def test_a_guess_may_do_as_well(n_right, n_in_class, expected):
    """An accuracy is worth something where always naming the commonest class does worse."""
    rated = rate_accuracy(n_right, n_in_class)
    words = describe_baseline(rated, ["a", "b", "c"][: len(n_in_class)])
    assert words.startswith(expected)
    assert bool(words) != rated.is_above_majority


def test_balanced_accuracy_needs_every_class():
    """Where a class is absent, its share classified correctly is not defined."""
    found = measure_accuracy(np.array([0, 0, 1]), np.array([0, 0, 0]), 2)
    assert found.accuracy == pytest.approx(2 / 3)
    assert np.isnan(found.balanced_accuracy)


def test_few_galaxies_are_counted_by_class():
    """Twenty of a class, and five of them to validate, are enough to say nothing."""
    assert describe_few({"a": 15, "b": 100}, {"a": 5, "b": 20}) == []
    assert describe_few({"a": 14, "b": 100}, {"a": 5, "b": 4}) == [
        "only 19 'a' to train and validate, expected 20 of a class",
        "only 4 'b' to validate, expected 5 of a class",
    ]
    assert describe_few({}, {}) == []
