"""Casting: what a device stores is what a processor stores, to the last bit, or it is not asked."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from galfig.pipeline import casting
from galfig.pipeline.casting import casts_exactly, scale_on_device
from galfig.store.chunks import ScaledMaps, encode_galaxy, scale_maps

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forget():
    casts_exactly.cache_clear()


@pytest.mark.parametrize("device", DEVICES)
def test_device_gives_the_bits_of_a_processor(device):
    """Maps of every power of two, from the smallest number to the largest."""
    assert casts_exactly(torch.device(device))


@given(
    arrays(
        np.float32,
        (3, 2, 4, 4),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_any_maps_keep_their_bits(maps):
    """Signs of zeros, numbers below the normal ones and maps of nothing among them."""
    data, scale = scale_on_device(torch.from_numpy(maps))
    for found, divisor, galaxy in zip(data.numpy(), scale.numpy(), maps, strict=True):
        expected = scale_maps(galaxy)
        assert found.tobytes() == expected.data.tobytes()
        assert divisor.tobytes() == expected.scale.tobytes()


def test_scaled_maps_are_compressed_as_they_are():
    """The chunk is that of the maps themselves."""
    rng = np.random.default_rng(0)
    cams = rng.normal(0, 1e-3, (2, 9, 9)).astype(np.float32)
    cutout = rng.integers(0, 256, (9, 9, 3), np.uint8)
    data, scale = scale_on_device(torch.from_numpy(cams)[None])
    found = encode_galaxy(ScaledMaps(data[0].numpy(), scale[0].numpy()), cutout)
    expected = encode_galaxy(cams, cutout)
    assert found.cams == expected.cams
    np.testing.assert_array_equal(found.cam_scale, expected.cam_scale)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scale_says_where_a_map_is_not_finite(value):
    """Only for that map."""
    cams = torch.ones(2, 2, 3, 3)
    cams[1, 0, 2, 1] = value
    _, scale = scale_on_device(cams)
    assert scale.isfinite().tolist() == [[True, True], [False, True]]


def _round_down(cams):
    """Round as a device might that only cuts digits off."""
    data, scale = scale_on_device(cams)
    bits = (cams / scale[:, :, None, None]).view(torch.int32) & ~0x1FFF
    return torch.where(data == 0, data, bits.view(torch.float32).half()), scale


def _flush(cams):
    """Take numbers below the normal ones for zero."""
    return scale_on_device(torch.where(cams.abs() < torch.finfo(torch.float32).tiny, 0, cams))


def _approximate(cams):
    """Give powers of two that are off by the last bit."""
    data, scale = scale_on_device(cams)
    return data, scale * (1 + 2**-23)


@pytest.mark.parametrize("wrong", [_round_down, _flush, _approximate])
def test_device_that_rounds_otherwise_is_not_asked(wrong, monkeypatch):
    """Then maps are scaled on the processor."""
    monkeypatch.setattr(casting, "scale_on_device", wrong)
    assert not casts_exactly(CPU)
