"""Metrics: numbers on plain arrays, held against scikit-learn and formulas."""

import time
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtri
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from galfig.metrics import (
    area_interval,
    compute_interval_factor,
    compute_log_odds,
    compute_offsets,
    compute_rest_shares,
    compute_roc,
    contrast_with_rest,
    count_reliability,
    describe_baseline,
    describe_few,
    measure_accuracy,
    median_correlation,
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


def test_interval_of_an_area_solves_its_equation():
    """Hanley and McNeil's example of 0.7 of 20 against 20 by Newcombe's method 5, both bounds."""
    m = n = 20
    # The variance by DeLong that Newcombe's model itself gives: the ratio is one.
    half = (m + n) / 2 - 1

    def model(x):
        return x * (1 - x) * (1 + half * (1 - x) / (2 - x) + half * x / (1 + x)) / (m * n)

    for area in (0.5, 0.7, 0.99):
        low, high = area_interval(area, model(area), m, n)
        for x in (low, high):
            assert (area - x) ** 2 == pytest.approx(1.959964**2 * model(x), rel=1e-5)
        assert low < area < high
    # Four times the variance is used as it is; a quarter of it, where galaxies are misplaced.
    wide = area_interval(0.7, 4 * model(0.7), m, n)
    narrow = area_interval(0.7, model(0.7) / 4, m, n)
    low, high = area_interval(0.7, None, m, n)
    assert wide[0] < low < narrow[0] < 0.7 < narrow[1] < high < wide[1]


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 50), (5, 5), (1000, 10)])
def test_perfect_and_useless_classifiers_have_an_interval(m, n):
    """An area of 1 or 0 is not certain, and mirrored areas have mirrored bounds."""
    is_class = np.repeat([True, False], [m, n])
    best, worst = compute_roc(is_class, is_class * 1.0), compute_roc(is_class, is_class * -1.0)
    assert (best.area, best.high, worst.area, worst.low) == (1, 1, 0, 0)
    assert 0 < best.low < 1
    assert worst.high == pytest.approx(1 - best.low)
    tied = compute_roc(is_class, np.full(m + n, 0.5))
    assert (tied.area, tied.low) == (0.5, pytest.approx(1 - tied.high))
    assert tied.low < 0.5


def test_variance_of_an_area_is_that_of_delong():
    """By the definition: the mean over all pairs, galaxy by galaxy (ties count half)."""
    rng = np.random.default_rng(3)
    inside, outside = np.round(rng.normal(1, 1, 15), 1), np.round(rng.normal(0, 2, 25), 1)
    pairs = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    variance = pairs.mean(axis=1).var(ddof=1) / 15 + pairs.mean(axis=0).var(ddof=1) / 25
    is_class = np.repeat([True, False], [15, 25])
    curve = compute_roc(is_class, np.concatenate([inside, outside]))
    assert curve.area == pytest.approx(pairs.mean())
    assert (curve.low, curve.high) == pytest.approx(area_interval(pairs.mean(), variance, 15, 25))


@pytest.mark.slow
@pytest.mark.parametrize("scatter", [1 / 3, 1, 3])
@pytest.mark.parametrize(("m", "n"), [(5, 5), (10, 200), (100, 100)])
@pytest.mark.parametrize("area", [0.5, 0.8, 0.95, 0.99])
def test_interval_of_an_area_covers_it(area, m, n, scatter):
    """Of 500 samples of normal scores, 95 % should have the true area in their interval."""
    rng = np.random.default_rng(0)
    shift = np.hypot(1, scatter) * ndtri(area)
    is_class = np.repeat([True, False], [m, n])
    n_covered = 0
    for _ in range(500):
        score = np.concatenate([rng.normal(shift, scatter, m), rng.normal(0, 1, n)])
        curve = compute_roc(is_class, score)
        n_covered += curve.low <= area <= curve.high
    assert n_covered >= 0.85 * 500


@pytest.mark.slow
def test_area_of_many_galaxies_is_fast():
    """A million galaxies are sorted once; a bootstrap of them took four minutes."""
    rng = np.random.default_rng(0)
    is_class = rng.random(10**6) < 0.3
    p = rng.random(10**6) + 0.3 * is_class
    start = time.process_time()
    curve = compute_roc(is_class, p)
    # A second on one core of a quiet machine.
    assert time.process_time() - start < 15
    assert curve.high - curve.low < 0.003


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("spread", [0.1, 3, 400])
def test_log_odds_of_any_logits(n_classes, spread):
    """They are log p - log(1 - p) in 700 digits, also where p rounds to 0 or 1."""
    logits = np.random.default_rng(n_classes).normal(0, spread, (3, n_classes))
    with localcontext() as context:
        context.prec = 700
        for found, row in zip(compute_log_odds(logits), logits, strict=True):
            weights = [Decimal(z).exp() for z in row.tolist()]
            expected = [float((w / (sum(weights) - w)).ln()) for w in weights]
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("spread", [0.1, 3, 400])
def test_evidence_adds_up_to_the_log_odds(n_classes, spread):
    """In float64, of maps that add up to the logits: sum + offset is the log-odds of each class."""
    rng = np.random.default_rng(n_classes)
    features = rng.random((16, 6, 5))
    weights = rng.normal(0, spread, (n_classes, 16)) / 30
    bias = rng.normal(0, 1, n_classes)
    maps = np.tensordot(weights, features, axes=1)
    logits = maps.sum(axis=(1, 2)) + bias
    evidence = contrast_with_rest(maps, logits)
    assert evidence.dtype == np.float64
    found = evidence.sum(axis=(1, 2)) + compute_offsets(bias, logits)
    np.testing.assert_allclose(found, compute_log_odds(logits[None])[0], rtol=1e-9, atol=1e-9)


def test_evidence_is_the_gradient_of_the_log_odds():
    """The contrast of values is the derivative of the log-odds along them, by differences."""
    rng = np.random.default_rng(3)
    logits, values = rng.normal(0, 2, 5), rng.normal(0, 1, 5)
    step = 1e-6
    ahead, behind = compute_log_odds(np.stack([logits + step * values, logits - step * values]))
    found = contrast_with_rest(values, logits)
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), atol=1e-7)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_what_all_classes_share_is_no_evidence(n_classes):
    """A part common to the maps of all classes leaves the contrast as it was."""
    rng = np.random.default_rng(4)
    maps, common = rng.normal(size=(n_classes, 4, 4)), rng.normal(size=(4, 4))
    logits = rng.normal(size=n_classes)
    np.testing.assert_allclose(
        contrast_with_rest(maps + common, logits), contrast_with_rest(maps, logits), atol=1e-14
    )


def test_shares_of_the_rest():
    """They are the probabilities of the others over their sum, also where that underflows."""
    p = np.array([0.5, 0.3, 0.2])
    expected = [[0, 0.6, 0.4], [5 / 7, 0, 2 / 7], [0.625, 0.375, 0]]
    np.testing.assert_allclose(compute_rest_shares(np.log(p)), expected)
    np.testing.assert_allclose(
        compute_rest_shares(np.array([2000, 1, 0]))[0], [0, 1 / (1 + np.exp(-1)), 1 / (1 + np.e)]
    )


def test_interval_factors_are_those_of_student():
    """Of scipy's distribution; for many networks, those of a normal one."""
    for n_networks in (2, 3, 5, 20):
        quantile = stats.t.ppf(0.975, n_networks - 1)
        mean, more = (compute_interval_factor(n_networks, of) for of in ("mean", "next"))
        assert mean == pytest.approx(quantile / np.sqrt(n_networks))
        assert more == pytest.approx(quantile * np.sqrt(1 + 1 / n_networks))
    assert compute_interval_factor(10**6, "next") == pytest.approx(1.96, abs=1e-3)


def test_one_network_has_no_interval():
    """Nor is there a third kind of interval."""
    with pytest.raises(ValueError, match="n_networks: 1, expected at least 2"):
        compute_interval_factor(1)
    with pytest.raises(ValueError, match="expected 'mean' or 'next'"):
        compute_interval_factor(5, "median")


def test_intervals_cover_what_they_say():
    """Of normal numbers: the next one in 95 % of cases, where twice the scatter covers 84 %."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(3, 2, (100_000, 6))
    known, left = drawn[:, :5], drawn[:, 5]
    mean, sd = known.mean(axis=1), known.std(axis=1, ddof=1)
    shares = [
        np.mean(np.abs(left - mean) < compute_interval_factor(5, "next") * sd),
        np.mean(np.abs(3 - mean) < compute_interval_factor(5, "mean") * sd),
    ]
    np.testing.assert_allclose(shares, 0.95, atol=0.004)
    assert np.mean(np.abs(left - mean) < 2 * sd) < 0.88


@pytest.mark.parametrize("digits", [1, 8], ids=["with ties", "without"])
def test_rank_correlation_is_that_of_scipy(digits):
    """For all pairs, also where values are equal."""
    rng = np.random.default_rng(2)
    maps = np.round(rng.normal(size=300) + rng.normal(size=(4, 300)), digits).astype(np.float32)
    pairs = [stats.spearmanr(maps[i], maps[j]).statistic for i in range(4) for j in range(i)]
    assert median_correlation(maps) == pytest.approx(np.median(pairs), abs=1e-12)
    assert median_correlation(np.stack([maps[0], -maps[0]])) == pytest.approx(-1)
    maps[3] = 1
    assert np.isnan(median_correlation(maps))
