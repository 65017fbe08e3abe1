"""Chunks: maps keep their precision in sixteen bits, whatever their scale."""

import numpy as np
import pytest
from samples import draw_galaxies, merge

from galfig.store.reader import open_store


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1.0, 1e6, 1e30])
def test_float16_is_safe_at_any_scale(tmp_path, scale):
    """Maps far beyond float16's own range keep eleven bits of their largest values."""
    part = draw_galaxies(0, 3, scale=scale)
    with open_store(merge(tmp_path, [part])) as store:
        for index in range(3):
            peak = np.abs(part.cams[index]).max(axis=(1, 2), keepdims=True)
            error = np.abs(store.cams(index) - part.cams[index]) / peak
            assert error.max() <= 2**-11


def test_zero_map_stays_zero(tmp_path):
    """A map without any attribution is exactly zero again."""
    part = draw_galaxies(0, 2, scale=0.0)
    with open_store(merge(tmp_path, [part])) as store:
        assert not store.cams(1).any()
