"""Moments of maps: against sums that are written out, and the numbers of a store of statistics."""

import numpy as np
import pytest

from galfig.metrics import contrast_with_rest
from galfig.pipeline.moments import find_centroid, measure_gini, measure_maps


def test_the_centroid_of_one_cell_is_that_cell():
    """From the centre of the map, right and down."""
    size = np.zeros((5, 8))
    size[4, 0] = 3
    assert find_centroid(size) == (-3.5, 2)
    assert np.isnan(find_centroid(np.zeros((3, 3)))).all()


@pytest.mark.parametrize("n", [2, 7, 100])
def test_gini_is_the_mean_difference_of_pairs(n):
    """Half of it, relative to the mean, times n / (n - 1); 0 where all are equal, 1 for one."""
    values = np.random.default_rng(n).exponential(size=n)
    differences = np.abs(values[:, None] - values[None, :]).sum() / (n * (n - 1))
    assert measure_gini(values) == pytest.approx(differences / (2 * values.mean()))
    assert measure_gini(np.ones(n)) == pytest.approx(0, abs=1e-12)
    assert measure_gini(np.eye(n)[0]) == pytest.approx(1)
    assert np.isnan(measure_gini(np.zeros(n)))


@pytest.mark.parametrize(
    ("n_classes", "method"),
    [(2, "grad-cam"), (2, "evidence"), (2, "layer-cam"), (3, "grad-cam"), (3, "evidence")],
)
def test_numbers_are_those_of_the_map_under_test(n_classes, method):
    """The evidence for the predicted class; a map where it is that, or has no evidence."""
    rng = np.random.default_rng(n_classes)
    # Multiples of 2^-9 in [-1, 1), which float16 keeps.
    cams = (rng.integers(-512, 512, (n_classes, 6, 4)) / 512).astype(np.float32)
    logits = np.arange(n_classes)[::-1].astype(np.float32)
    found = measure_maps(cams, logits, method, 12)
    tested = cams[0].astype(float)
    if method == "grad-cam":
        tested = contrast_with_rest(cams.astype(float), logits)[0]
    weights = np.abs(tested)
    y, x = np.mgrid[:6, :4]
    centroid = [np.average(axis, weights=weights) for axis in (x - 1.5, y - 2.5)]
    # A cutout of 12 pixels under 4 by 6 cells.
    assert found["centroid_x"] == pytest.approx(3 * centroid[0], rel=1e-5)
    assert found["centroid_y"] == pytest.approx(2 * centroid[1], rel=1e-5)
    share = tested[tested > 0].sum() / weights.sum()
    assert found["positive_share"] == pytest.approx(share, rel=1e-5)
    assert found["concentration"] == pytest.approx(measure_gini(weights.ravel()), rel=1e-5)
    np.testing.assert_allclose(found["cam_total"], cams.sum(axis=(1, 2)), rtol=1e-6)
    assert np.array_equal(found["cam_peak"], cams.max(axis=(1, 2)))


def test_a_map_of_zeros_has_no_place():
    """And no division by zero."""
    found = measure_maps(np.zeros((2, 3, 3), np.float32), np.zeros(2, np.float32), "grad-cam", 9)
    assert found["cam_total"].tolist() == found["cam_peak"].tolist() == [0, 0]
    names = ("centroid_x", "centroid_y", "concentration", "positive_share")
    assert np.isnan([found[name] for name in names]).all()
