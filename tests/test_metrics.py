"""Metrics: numbers on plain arrays, held against scikit-learn and formulas."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from galfig.metrics import score


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
