"""Learning rate: the curve of the finder and the rate chosen on it."""

import numpy as np
import pytest
from samples import LOSSES, RATES

from galfig.figures.learning_rate import make_learning_rate


def test_learning_rate_marks_the_rate_on_the_curve():
    """The chosen rate lies on the curve, and the explosion does not flatten it."""
    (ax,) = make_learning_rate(RATES, LOSSES, 0.01).axes
    curve, point = ax.lines
    np.testing.assert_array_equal(curve.get_ydata(), LOSSES)
    assert point.get_xdata()[0] == 0.01
    assert point.get_ydata()[0] == pytest.approx(np.interp(0.01, RATES, LOSSES), abs=2e-3)
    assert ax.get_xscale() == "log"
    assert ax.get_ylim()[1] < 2
