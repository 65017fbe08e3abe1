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


@pytest.mark.parametrize("peak", [2.0**127, 2e38, float(np.finfo(np.float32).max)])
@pytest.mark.parametrize("sign", [1, -1])
def test_largest_numbers_of_float32_stay_finite(tmp_path, peak, sign):
    """Above 2^127, where the next power of two is no float32: the same eleven bits."""
    part = draw_galaxies(0, 1)
    part.cams[0] = np.linspace(0, sign * peak, part.cams[0].size).reshape(part.cams[0].shape)
    with open_store(merge(tmp_path, [part])) as store:
        found = store.cams(0).astype(np.float64)
    assert np.isfinite(found).all()
    error = np.abs(found - part.cams[0].astype(np.float64))
    assert (error <= peak * 2**-11).all()


def test_smallest_numbers_of_float32_keep_their_scale(tmp_path):
    """Below the normal numbers, the scale is a power of two all the same."""
    part = draw_galaxies(0, 1)
    part.cams[0] = np.float32(1e-44)
    with open_store(merge(tmp_path, [part])) as store:
        assert (store.cams(0) == np.float32(1e-44)).all()
