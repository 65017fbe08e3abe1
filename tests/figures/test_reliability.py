"""The reliability diagram: shares of galaxies classified correctly in bins of p."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from galfig.figures.reliability import make_reliability
from galfig.metrics import N_BINS, count_reliability, wilson_interval


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
