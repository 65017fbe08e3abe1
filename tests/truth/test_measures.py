"""Tests of galfig.truth.measures: scores by hand, and against torch."""

import numpy as np
import pytest
import torch

from galfig.truth.measures import draw_baselines, fit_map, score_map, share_inside, weigh_pixels

MASK = np.zeros((6, 6), bool)
MASK[1:3, 1:4] = True


def test_the_centre_dot_is_a_sixteenth_of_the_side_wide():
    """Its second moment, along either axis, and its place between the central pixels."""
    dot = draw_baselines(np.zeros((96, 96, 3), np.uint8))["centre dot"]
    along = dot.sum(axis=0) / dot.sum()
    x = np.arange(96) - 47.5
    assert (along * x).sum() == pytest.approx(0, abs=1e-9)
    assert np.sqrt((along * x**2).sum()) == pytest.approx(96 / 16, rel=1e-3)


def test_scores_by_hand():
    """Six pixels of the mask; three of the six highest lie in it, and the highest does not."""
    found = np.zeros((6, 6))
    found[1, 1:4] = [5, 4, 3]
    found[5, :3] = [6, 2, 1]
    found[4, 4] = -9
    mass, rank, pointing = score_map(found, MASK)
    assert mass == pytest.approx(12 / 21)
    assert rank == pytest.approx(3 / 6)
    assert pointing == 0
    assert share_inside(found, MASK) == pytest.approx(12 / 30)


def test_the_truth_itself_is_perfect():
    """And its opposite gets nothing."""
    np.testing.assert_array_equal(score_map(MASK.astype(float), MASK), [1, 1, 1])
    np.testing.assert_array_equal(score_map(1 - MASK.astype(float), MASK), [0, 0, 0])


@pytest.mark.parametrize("level", [0.0, 1.0, -2.0])
def test_a_constant_map_scores_as_random_ones(level):
    """The mask's share of the area, in all three; so do random maps on average."""
    np.testing.assert_allclose(score_map(np.full((6, 6), level), MASK), 6 / 36)
    rng = np.random.default_rng(0)
    found = np.mean([score_map(rng.random((6, 6)), MASK) for _ in range(3000)], axis=0)
    np.testing.assert_allclose(found, 6 / 36, atol=0.02)


def test_ties_are_broken_at_random_on_average():
    """Two pixels share the first place, and one of them is in the mask."""
    found = np.zeros((6, 6))
    found[1, 1] = found[5, 5] = 1
    assert score_map(found, MASK)[2] == 0.5
    # Of the other four places, those in the mask get their share of the 34 that are equal.
    assert score_map(found, MASK)[1] == pytest.approx((1 + 4 * 5 / 34) / 6)


@pytest.mark.parametrize("side", [3, 7, 24, 48, 96])
def test_coarse_maps_are_interpolated_as_by_torch(side):
    """Bilinear, with the corners of the two grids in one place."""
    found = np.random.default_rng(1).normal(size=(side, side))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(found)[None, None], (96, 96), mode="bilinear"
    )
    np.testing.assert_allclose(fit_map(found, 96), expected[0, 0], atol=1e-12)


def test_fine_maps_are_averaged():
    """Whole pixels as by blocks, others by their overlap; sums are kept."""
    found = np.random.default_rng(2).normal(size=(12, 12))
    np.testing.assert_allclose(fit_map(found, 4), found.reshape(4, 3, 4, 3).mean(axis=(1, 3)))
    for n_old, n_new in ((10, 4), (224, 96), (4, 9)):
        weights = weigh_pixels(n_old, n_new)
        np.testing.assert_allclose(weights.sum(axis=1), 1)
        if n_old > n_new:
            np.testing.assert_allclose(weights.sum(axis=0), n_new / n_old)


def test_baselines_know_the_image_alone():
    """The dot is highest in the middle, and the brightness is zero in the sky."""
    cutout = np.full((8, 8, 3), 10, np.uint8)
    cutout[2, 5] = [90, 120, 150]
    found = draw_baselines(cutout)
    assert np.unravel_index(found["centre dot"].argmax(), (8, 8)) in {
        (3, 3),
        (3, 4),
        (4, 3),
        (4, 4),
    }
    assert found["brightness"][2, 5] == 110
    assert np.count_nonzero(found["brightness"]) == 1
