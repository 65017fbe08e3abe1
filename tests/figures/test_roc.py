"""ROC curves: areas with intervals, a curve a class."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import auc, roc_auc_score, roc_curve

from galfig.figures.registry import render_figure
from galfig.figures.roc import make_roc
from galfig.figures.style import MAX_CURVES, choose_curve_style
from galfig.metrics import compute_roc
from galfig.store.selection import Query


def test_roc_area_and_its_interval():
    """The area is scikit-learn's and the curve's; the interval covers a known truth."""
    rng = np.random.default_rng(1)
    is_class = np.repeat([True, False], 200)
    p = np.where(is_class, rng.normal(1, 1, 400), rng.normal(0, 1, 400))
    curve = compute_roc(is_class, p)
    assert curve.area == pytest.approx(roc_auc_score(is_class, p))
    # The points at which scikit-learn's curve turns, without those on a straight line.
    points = set(zip(*curve[:2], strict=True))
    assert points < set(zip(*roc_curve(is_class, p)[:2], strict=True))
    area = auc(curve.false_positive_rate, curve.true_positive_rate)
    assert area == pytest.approx(curve.area)
    # Two unit normals a standard deviation apart: Phi(1 / sqrt 2) = 0.760.
    assert curve.low < 0.760 < curve.high
    assert 0.05 < curve.high - curve.low < 0.13
    order = rng.permutation(400)
    assert compute_roc(is_class[order], p[order])[2:] == curve[2:]
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


def test_two_curves_on_one_axes_are_told_apart():
    """A second call keeps the first curve in the legend, in another colour, and one diagonal."""
    ax = Figure().subplots()
    is_class = np.repeat([True, False], 50)
    p = np.random.default_rng(0).random(100)
    for name in ("red", "blue"):
        make_roc({name: compute_roc(is_class, p)}, ax=ax)
    assert [text.get_text().split(":")[0] for text in ax.get_legend().get_texts()] == [
        "red",
        "blue",
    ]
    assert len(ax.lines) == 3
    assert len({line.get_color() for line in ax.lines}) == 3


def test_curves_of_many_classes_differ():
    """Each of the curves that are allowed has its own colour and dashes."""
    styles = [str(choose_curve_style(number)) for number in range(MAX_CURVES)]
    assert len(set(styles)) == MAX_CURVES


@pytest.mark.parametrize("width", [1.5, 2, 2.6, 3.39, 5])
def test_legend_breaks_no_interval(width):
    """Nor parts the area from it, unless a line is too short; a name with blanks may break."""
    curve = compute_roc(np.repeat([True, False], 50), np.random.default_rng(0).random(100))
    names = ["low-metallicity", "medium of some kind", "high"]
    fig = make_roc(dict.fromkeys(names, curve), width)
    # In a small figure, the legend stands below the axes.
    legend = fig.axes[0].get_legend() or fig.legends[0]
    interval = f"[{curve.low:.3f}, {curve.high:.3f}]"
    for text in legend.get_texts():
        lines = text.get_text().split("\n")
        assert any(interval in line for line in lines) or width == 1.5
        assert any(f"{curve.area:.3f} {interval}" in line for line in lines) or width < 2.6
        assert "\xa0" not in text.get_text()
