"""Orders of pixels: what each control scores, and that maps are scaled as torch does it."""

import numpy as np
import pytest
import torch

from galfig.auditing.orders import score_pixels
from galfig.auditing.receptive_field import find_window


def test_edges_have_no_sign():
    """Those of an image and of its negative are the same, and a flat image has none."""
    light = np.random.default_rng(0).uniform(0, 255, (24, 24))
    edges, negative = (score_pixels(light, one)["edges"] for one in (light, 255 - light))
    # The truncated kernel of scipy adds up to 1e-4, and not to zero.
    assert edges == pytest.approx(negative, abs=0.1)
    assert edges.mean() > 10
    assert score_pixels(light, np.full((24, 24), 7.0))["edges"] == pytest.approx(0, abs=0.01)


def test_the_blurred_map_is_as_wide_as_the_side_says():
    """A single pixel becomes a Gaussian whose standard deviation is side / 24."""
    cam = np.zeros((49, 49))
    cam[24, 24] = 1
    blurred = score_pixels(cam, np.zeros((49, 49)))["blurred map"]
    away = np.arange(49) - 24
    assert blurred.sum() == pytest.approx(1)
    assert (blurred.sum(axis=0) * away**2).sum() == pytest.approx((49 / 24) ** 2, rel=0.02)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_window_is_what_the_brightest_cell_sees(stride):
    """The pixels that change the cell, of a convolution with padding, at the border as well."""
    layer = torch.nn.Conv2d(1, 1, 3, stride=stride, padding=1)
    image = torch.zeros(1, 1, 16, 16, requires_grad=True)
    cells = layer(image)[0, 0]
    for row, column in ((0, 0), (1, 2), (len(cells) - 1, len(cells) - 1)):
        (gradient,) = torch.autograd.grad(cells[row, column], image, retain_graph=True)
        seen = gradient[0, 0].numpy() != 0
        cam = np.zeros(cells.shape)
        cam[row, column] = 1
        window = np.zeros((16, 16), bool)
        window[find_window(cam, (16, 16), 3)] = True
        assert np.array_equal(window, seen)
