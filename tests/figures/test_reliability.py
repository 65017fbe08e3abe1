"""The reliability diagram: shares of galaxies classified correctly in bins of p."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from galfig.figures.captions import PLAIN
from galfig.figures.registry import draw_figure
from galfig.figures.reliability import make_reliability
from galfig.metrics import N_BINS, count_reliability, wilson_interval
from galfig.store.selection import Query


@pytest.fixture
def calibrated():
    """Give p of 400 galaxies, and which of them are right as often as p says."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 400)
    return p, rng.random(400) < p


def test_points_and_bars_are_those_of_the_bins(calibrated):
    """Share against mean p with Wilson intervals, and below it every galaxy once."""
    p, is_right = calibrated
    shares, counts = make_reliability(p, is_right, 2).axes
    mean_p, n, n_right = count_reliability(p, is_right, 2)
    (points,) = shares.containers
    np.testing.assert_allclose(points.lines[0].get_xdata(), mean_p)
    np.testing.assert_allclose(points.lines[0].get_ydata(), n_right / n)
    low, high = wilson_interval(n_right, n)
    (bars,) = points.lines[2]
    ends = np.array(bars.get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, np.column_stack([low, high]))
    heights = [bar.get_height() for bar in counts.patches]
    assert len(heights) == N_BINS
    assert sum(heights) == len(p)


def test_on_axes_of_the_caller_there_is_the_diagram_alone(calibrated):
    """Labelled, and without the panel of numbers."""
    ax = Figure().subplots()
    assert make_reliability(*calibrated, 2, ax=ax) is ax.figure
    assert ax.figure.axes == [ax]
    assert ax.get_xlabel()
    assert ax.get_ylabel() == "Share classified correctly"


def make_calibrated(make_store):
    """Write a store whose network is calibrated, with all galaxies of p = 0.75."""
    logits = np.full((40, 2), np.log(0.25), np.float32)
    logits[:, 0] = np.log(0.75)
    label = np.repeat([0, 0, 0, 1], 10).astype(np.int16)
    return make_store(n=40, logits=logits, probs=np.exp(logits), label=label)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (Query(n=None), ""),
        (Query(n=None, predicted="low"), ""),
        (Query(n=None, sort="loss"), ""),
        (Query(n=None, true="low"), "these galaxies are all of one true class"),
        (Query(n=None, where="z < 0.04"), "these galaxies are all of one true class"),
        (Query(n=20, sort="loss"), "these galaxies were chosen by how they are classified"),
    ],
)
def test_line_is_calibration_only_where_truth_did_not_choose(make_store, query, why):
    """Of the galaxies of one class, this calibrated network is right for all, not for 75 %."""
    path = make_calibrated(make_store)
    with draw_figure("reliability", path, query) as (drawing, _):
        words, table = drawing.describe(PLAIN), drawing.tabulate()
    share = table["n_right"].values / table["n"].values
    assert ("The dotted line marks perfect calibration." in words) == (not why)
    if why:
        assert f"a calibrated network need not lie on it here, because {why}." in words
        assert share != pytest.approx([0.75])
    else:
        assert share == pytest.approx([0.75])
