"""Statistics of maps: exact on maps that are made by hand."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from galfig.auditing.statistics import (
    measure_brightness,
    measure_map,
    measure_share,
)


def test_one_cell_has_its_place_and_all_the_concentration():
    """A single cell of 4 × 4 under a cutout of 8 × 8: two pixels a cell, right of and below."""
    evidence = np.zeros((4, 4))
    evidence[3, 2] = -2.0
    found = measure_map(evidence, np.arange(64.0).reshape(8, 8))
    # The cell is 0.5 and 1.5 cells from the centre, of two pixels each.
    assert (found.centroid_x, found.centroid_y) == (1.0, 3.0)
    assert found.centroid_distance == pytest.approx(np.hypot(1, 3))
    assert found.concentration == pytest.approx(1.0)
    assert found.positive_to_negative == 0.0


def test_an_even_map_has_no_concentration():
    """All cells equal: a centroid in the centre, a Gini coefficient of 0, and no correlation."""
    found = measure_map(np.ones((3, 5)), np.random.default_rng(0).random((6, 10, 3)))
    assert found.centroid_distance == pytest.approx(0, abs=1e-12)
    assert found.concentration == pytest.approx(0, abs=1e-12)
    assert np.isinf(found.positive_to_negative)
    assert np.isnan(found.brightness_correlation)


def test_gini_is_that_of_its_definition():
    """Half the mean absolute difference over the mean, with n - 1: Lotz et al. 2004."""
    values = np.array([[1.0, -4.0], [0.5, 2.0]])
    size = np.abs(values).ravel()
    differences = np.abs(size[:, None] - size[None, :]).sum()
    expected = differences / (2 * size.mean() * 4 * 3)
    assert measure_map(values, np.eye(2)).concentration == pytest.approx(expected)


def test_signs_are_told_apart():
    """3 positive over 1.5 negative; a map of nothing has no ratio and no centroid."""
    found = measure_map(np.array([[1.0, 2.0], [-0.5, -1.0]]), np.eye(2))
    assert found.positive_to_negative == 2.0
    assert all(np.isnan(measure_map(np.zeros((2, 2)), np.eye(2))))


def test_brightness_is_averaged_over_cells():
    """By blocks where they fit, in parts where pixels are shared, and over bands."""
    pixels = np.arange(16.0).reshape(4, 4)
    blocks = pixels.reshape(2, 2, 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(measure_brightness(pixels, (2, 2)), blocks)
    np.testing.assert_allclose(measure_brightness(np.stack([pixels] * 3, -1), (2, 2)), blocks)
    # Three pixels in two cells: each has the middle one by half.
    np.testing.assert_allclose(
        measure_brightness(np.array([[0.0, 3.0, 6.0]]), (1, 2)), [[1.0, 5.0]]
    )
    # Finer maps than pixels.
    np.testing.assert_allclose(measure_brightness(np.array([[1.0, 2.0]]), (1, 4)), [[1, 1, 2, 2]])


def test_correlation_with_brightness_is_spearmans():
    """Monotonic is 1, whatever its form, and agrees with scipy on noise."""
    light = np.random.default_rng(1).random((6, 6))
    assert measure_map(np.exp(5 * light), light).brightness_correlation == pytest.approx(1)
    noise = np.random.default_rng(2).normal(size=(6, 6))
    expected = spearmanr(noise.ravel(), light.ravel()).statistic
    assert measure_map(noise, light).brightness_correlation == pytest.approx(expected)
    assert np.isnan(measure_map(np.ones((6, 6)), light).brightness_correlation)


@pytest.mark.parametrize(
    ("radius", "expected"),
    [(1.0, 0.0), (1.5, 4 / 10), (3.0, 4 / 10), (3.5, 8 / 10), (9.0, 1.0)],
)
def test_share_within_a_radius(radius, expected):
    """Centres of the cells of 4 × 4 on a cutout of 8 pixels are 1.41, 3.16 and 4.24 away."""
    evidence = np.zeros((4, 4))
    evidence[1:3, 1:3] = [[1, -1], [1, 1]]
    evidence[0, 1:3] = evidence[3, 1:3] = -1
    evidence[0, 0], evidence[3, 3] = 1, -1
    assert measure_share(evidence, radius, 8) == pytest.approx(expected)


@pytest.mark.parametrize("radius", [np.nan, np.inf, 0.0, -1.0])
def test_no_share_without_a_radius(radius):
    """NaN, since neither 0 nor 1 would be true."""
    assert np.isnan(measure_share(np.ones((2, 2)), radius, 4))
    assert np.isnan(measure_share(np.zeros((2, 2)), 1.0, 4))
