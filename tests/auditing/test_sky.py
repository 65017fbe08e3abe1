"""Galaxy and sky are told apart, on drawn and on real galaxies."""

import numpy as np
import pytest
from PIL import Image

from galfig.auditing.sky import Level, find_core, find_regions, measure_sky


def test_the_galaxy_is_found_and_the_rest_is_sky(draw):
    """A Gaussian galaxy ends where its light meets the noise; its neighbour is neither."""
    pixels = draw(64, width=5).copy()
    pixels[5:9, 5:9] = 200
    regions = find_regions(pixels)
    y, x = np.mgrid[:64, :64] - 31.5
    away = np.hypot(y, x)
    assert regions.galaxy[away < 8].all()
    assert not regions.galaxy[away > 24].any()
    assert not regions.sky[4:10, 4:10].any()
    assert not regions.galaxy[4:10, 4:10].any()
    assert regions.sky[away > 26].mean() > 0.8
    core = find_core(regions)
    assert core[away < 3].all()
    assert core.sum() < 0.5 * regions.galaxy.sum()


def test_the_central_source_is_the_galaxy_though_another_is_brighter(draw):
    """A bright star in the corner does not take its place."""
    pixels = (draw(64, width=4) // 3).copy()
    pixels[4:12, 50:58] = 255
    galaxy = find_regions(pixels).galaxy
    assert galaxy[32, 32]
    assert not galaxy[8, 54]


def test_a_galaxy_that_fills_its_cutout_has_no_sky(draw):
    """Its own outskirts would be taken for sky, were it not for the others of the sample."""
    cutouts = [draw(48, seed, width=3) for seed in range(9)] + [draw(48, 9, width=60)]
    sky = measure_sky(cutouts, np.random.default_rng(0))
    assert 10 <= sky.level.value <= 14
    assert sky.pool.shape[1] == 3
    assert sky.pool.max() < 40
    assert find_regions(cutouts[-1], sky.level).is_filled
    assert not find_regions(cutouts[0], sky.level).is_filled


def test_an_image_of_nothing_has_no_galaxy():
    """A frame of one grey level, and one of one band."""
    for n_channels in (1, 3):
        regions = find_regions(np.full((20, 20, n_channels), 7, np.uint8), Level(7, 0.2))
        assert not regions.galaxy.any()
        assert regions.sky.all()
        assert find_core(regions).any()


def test_real_galaxies_are_found(real_data):
    """Of galaxies that were scaled to their frame, a third is the galaxy, and most the sky."""
    files = sorted((real_data("sdss-oh") / "images").glob("*.jpg"))[:20]
    cutouts = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    sky = measure_sky(cutouts, np.random.default_rng(0))
    found = [find_regions(cutout, sky.level) for cutout in cutouts]
    assert all(regions.galaxy[64, 64] for regions in found)
    assert 0.1 < np.median([regions.galaxy.mean() for regions in found]) < 0.5
    assert np.median([regions.sky.mean() for regions in found]) == pytest.approx(0.65, abs=0.15)


def test_the_scatter_is_that_of_the_noise_and_of_the_levels():
    """Smoothing by 1.5 pixels leaves σ / (2 √π · 1.5); the wings of a galaxy add nothing."""
    rng = np.random.default_rng(5)
    noise = np.rint(rng.normal(40, 6, (12, 128, 128, 3)))
    expected = 6 / np.sqrt(3) / (2 * np.sqrt(np.pi) * 1.5)
    y, x = np.mgrid[:128, :128] - 63.5
    galaxy = 150 * np.exp(-0.5 * (y**2 + x**2) / 16**2)[..., None]
    cutouts = [np.clip(one + galaxy, 0, 255).astype(np.uint8) for one in noise]
    found = measure_sky(cutouts, rng).level
    assert found.value == pytest.approx(40, abs=0.5)
    assert found.scatter == pytest.approx(expected, rel=0.2)
    shifts = np.array([-9, -6, -3, -3, 0, 0, 0, 0, 3, 3, 6, 9])
    moved = [(one + shift).astype(np.uint8) for one, shift in zip(noise, shifts, strict=True)]
    # The median of the absolute shifts is 3.
    found = measure_sky(moved, rng).level
    assert found.value == pytest.approx(40, abs=0.5)
    assert found.scatter == pytest.approx(np.hypot(expected, 1.4826 * 3), rel=0.05)
