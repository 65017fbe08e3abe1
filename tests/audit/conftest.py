"""Cutouts for the tests of the audit."""

import numpy as np
import pytest
from samples import draw_galaxy


@pytest.fixture
def draw():
    """Give a function that draws a galaxy on a noisy sky, (48, 48, 3) uint8."""

    def draw(size=48, seed=0, **options):
        noise = np.random.default_rng(seed).normal(0, 2, (size, size, 3))
        return np.clip(draw_galaxy(size, **options) + noise, 0, 255).astype(np.uint8)

    return draw
