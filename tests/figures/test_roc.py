"""ROC curves: areas with intervals, a curve a class."""

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score

from galfig.figures.registry import render_figure
from galfig.figures.roc import make_roc
from galfig.metrics import compute_roc
from galfig.store.selection import Query


def test_roc_area_and_its_interval():
    """The area is scikit-learn's and the curve's; the interval covers a known truth."""
    rng = np.random.default_rng(1)
    is_class = np.repeat([True, False], 200)
    p = np.where(is_class, rng.normal(1, 1, 400), rng.normal(0, 1, 400))
    curve = compute_roc(is_class, p)
    assert curve.area == pytest.approx(roc_auc_score(is_class, p))
    area = auc(curve.false_positive_rate, curve.true_positive_rate)
    assert area == pytest.approx(curve.area)
    # Two unit normals a standard deviation apart: Phi(1 / sqrt 2) = 0.760.
    assert curve.low < 0.760 < curve.high
    assert 0.05 < curve.high - curve.low < 0.13
    assert compute_roc(is_class, p).low == curve.low
    (ax,) = make_roc({"high": curve}).axes
    assert ax.get_legend().get_texts()[0].get_text().startswith(f"high: {curve.area:.3f} [")


@pytest.mark.slow
def test_roc_of_two_classes_is_one_curve_and_of_three_are_three(make_store, tmp_path):
    """Beyond two classes, each has its own curve against the rest."""
    two = make_store("two.h5")
    three = make_store("three.h5", class_names=("a", "b", "c"), quantity="")
    for store, n_areas in ((two, 1), (three, 3)):
        render_figure("roc", store, Query(n=None), tmp_path / f"{n_areas}.pdf")
        words = (tmp_path / f"{n_areas}.txt").read_text()
        assert words.count(" to 1.000)") + words.count(" to 0.") == n_areas
