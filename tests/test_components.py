"""Components: as scikit-learn and a covariance matrix say, whatever the galaxies are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from galfig.components import find_components, measure_distances


def draw(n, k, seed=0):
    """Draw features that are correlated, of different sizes, and far from zero."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(k, k)) * np.geomspace(3, 0.1, k)[:, None]
    return (rng.normal(size=(n, k)) @ mixing + 20).astype(np.float32)


@pytest.mark.parametrize(("n", "k"), [(40, 7), (7, 40), (200, 3), (30, 30), (2000, 64)])
def test_components_are_those_of_scikit_learn(n, k):
    """Up to the sign, which scikit-learn has chosen in different ways."""
    features = draw(n, k)
    found = find_components(features)
    expected = PCA(3, whiten=True, svd_solver="full")
    scores = expected.fit_transform(features.astype(np.float64))
    np.testing.assert_allclose(found.shares, expected.explained_variance_ratio_, rtol=1e-9)
    signs = np.sign((found.scores * scores).sum(axis=0))
    np.testing.assert_allclose(found.scores, scores * signs, rtol=1e-7, atol=1e-9)


def test_shares_are_those_of_the_covariance():
    """By another way: the eigenvalues of the covariance matrix."""
    features = draw(90, 5)
    values = np.linalg.eigvalsh(np.cov(features.T.astype(np.float64)))[::-1]
    np.testing.assert_allclose(find_components(features, 5).shares, values / values.sum())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 60), k=st.integers(1, 12))
def test_scores_are_whitened(seed, n, k):
    """Of mean 0, of variance 1, and uncorrelated; the shares decrease to no more than 1."""
    scores, shares = find_components(draw(n, k, seed))
    assert len(shares) == min(3, k, n - 1)
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(scores.T @ scores / (n - 1), np.eye(len(shares)), atol=1e-7)
    assert np.all(np.diff(shares) <= 0)
    assert shares.sum() <= 1 + 1e-12


def test_rotations_and_order_change_nothing():
    """Rotated features have the same scores up to signs; those of other orders are the same."""
    features = draw(50, 6)
    found = find_components(features)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))
    turned = find_components(features.astype(np.float64) @ turn)
    np.testing.assert_allclose(np.abs(turned.scores), np.abs(found.scores), rtol=1e-6, atol=1e-8)
    order = np.random.default_rng(2).permutation(50)
    np.testing.assert_allclose(find_components(features[order]).scores, found.scores[order])


def test_sign_is_that_of_the_largest_loading():
    """The feature that a component follows most grows along it."""
    features = draw(80, 6)
    scores, _ = find_components(features)
    centred = features - features.mean(axis=0, dtype=np.float64)
    loadings = np.linalg.lstsq(scores, centred, rcond=None)[0]
    for loading in loadings:
        assert loading[np.abs(loading).argmax()] > 0


def test_features_that_span_less_have_fewer_components():
    """Constant ones none, copies of each other one, and those of two galaxies one."""
    constant = np.full((20, 8), 0.1, np.float32)
    assert find_components(constant).shares.size == 0
    assert find_components(constant * 1e6).scores.shape == (20, 0)
    line = np.linspace(0, 1, 20, dtype=np.float32)[:, None] * np.arange(1, 9, dtype=np.float32)
    assert find_components(line).shares == pytest.approx([1.0])
    assert find_components(draw(2, 8)).scores.shape == (2, 1)
    assert find_components(draw(1, 8)).scores.shape == (1, 0)
    assert find_components(np.empty((5, 0), np.float32)).scores.shape == (5, 0)
    assert find_components(np.empty((0, 5), np.float32)).scores.shape == (0, 0)


def test_distances_are_those_of_scipy():
    """For features of any size."""
    features = draw(40, 9) - 15
    expected = cdist(features.astype(float), features[3:4].astype(float), "cosine")[:, 0]
    found = measure_distances(features, features[3])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert found[3] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(measure_distances(features * 7, features[3] / 3), found, atol=1e-6)
    assert measure_distances(-features[3:4], features[3]) == pytest.approx(2)


def test_features_of_zeros_are_like_nothing():
    """They have no direction; nor is the number of galaxies of any importance."""
    features = draw(40, 9)
    features[5] = 0
    assert measure_distances(features, features[3])[5] == 1
    assert np.all(measure_distances(features, features[5]) == 1)
    together = measure_distances(features, features[3])
    alone = [measure_distances(features[i : i + 1], features[3])[0] for i in range(40)]
    assert np.array_equal(together, alone)
