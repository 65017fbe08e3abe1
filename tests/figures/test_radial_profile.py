"""Radial profile: known maps, at any resolution and in units of a radius."""

import numpy as np
import pytest

from galfig.errors import FigureError
from galfig.figures.radial_profile import bin_radii, bootstrap_mean, measure_profiles
from galfig.figures.registry import render_figure
from galfig.store.reader import open_store
from galfig.store.selection import Query


@pytest.mark.parametrize("map_size", [24, 12])
def test_radial_profile_of_known_maps(make_store, map_size):
    """Of a map that falls with radius the profile is that fall, at any resolution of the map."""
    y, x = ((np.mgrid[:map_size, :map_size] + 0.5) / map_size - 0.5) * 24
    radius = np.hypot(y, x)
    cams = np.stack([10 - radius, np.full_like(radius, -2.0)])
    store_cams = np.repeat(cams[None], 12, axis=0).astype(np.float32)
    with open_store(make_store(map_size=map_size, cams=store_cams)) as store:
        profiles, edges = measure_profiles(store, np.arange(12))
    middle = (edges[:-1] + edges[1:]) / 2
    np.testing.assert_allclose(profiles[0, 0], 10 - middle, atol=0.6 * np.diff(edges)[0])
    np.testing.assert_allclose(profiles[:, 1], -2.0, rtol=1e-3)
    assert edges[-1] == 12


def test_annuli_hold_each_pixel_once():
    """Every pixel within half a side is in the annulus of its radius, the corners in none."""
    edges = np.linspace(0, 48, 25)
    annulus = bin_radii((96, 96), 96, edges)
    y, x = np.mgrid[:96, :96] - 47.5
    radius = np.hypot(y, x)
    for index in range(len(edges) - 1):
        inside = (radius >= edges[index]) & (radius < edges[index + 1])
        np.testing.assert_array_equal(annulus == index, inside)
    assert (annulus[0, 0], annulus[47, 47]) == (len(edges) - 1, 0)


def test_bootstrap_band_is_the_standard_error():
    """Of many galaxies the band is a standard error of the mean to each side."""
    profiles = np.random.default_rng(0).normal(3, 2, (400, 1, 5))
    mean, low, high = bootstrap_mean(profiles)
    np.testing.assert_allclose(mean, profiles.mean(axis=0))
    np.testing.assert_allclose((high - low) / 2, 0.1, rtol=0.2)


def test_profile_of_a_coarse_map_is_refused(make_store, tmp_path):
    """Three pixels have no profile."""
    store = make_store(map_size=3)
    with pytest.raises(FigureError, match="maps of 3 pixels, expected at least 4"):
        render_figure("radial-profile", store, Query(n=None), tmp_path / "f.pdf")


def test_profile_in_units_of_a_radius(make_store, tmp_path):
    """Maps that fall with r / R have one profile, though the radii differ threefold."""
    y, x = np.mgrid[:96, :96] - 47.5
    arcsec = np.linspace(2.0, 6.0, 12)
    scaled = np.hypot(y, x)[None] * 0.396 / arcsec[:, None, None]
    cams = np.repeat((5 - scaled)[:, None], 2, axis=1).astype(np.float32)
    catalog = {"R50": np.append(arcsec[:-1], np.nan)}
    path = make_store(size=96, map_size=96, cams=cams, catalog=catalog)
    with open_store(path) as store:
        profiles = measure_profiles(store, np.arange(12), arcsec / 0.396)
    middle = (profiles.edges[:-1] + profiles.edges[1:]) / 2
    spread = np.nanmax(profiles.values[:, 0], axis=0) - np.nanmin(profiles.values[:, 0], axis=0)
    np.testing.assert_allclose(np.nanmean(profiles.values[:, 0], axis=0), 5 - middle, atol=0.08)
    assert spread.max() < 0.15
    # 48 pixels are 19 arcsec, and nine galaxies in ten reach out to 3.4 of their own radii.
    assert profiles.edges[-1] == pytest.approx(np.quantile(48 * 0.396 / arcsec, 0.1))
    assert np.isnan(profiles.values[-1, 0, -1])
    render_figure("radial-profile", path, Query(n=None), tmp_path / "f.pdf", unit="R50")
    words = (tmp_path / "f.txt").read_text()
    assert "in units of each galaxy's R50; the 1 without one are left out." in words


@pytest.mark.parametrize(
    ("unit", "words"), [("R90", "column of the catalog: 'objID', 'z'"), ("z", "")]
)
def test_unit_without_a_scale_or_a_column_is_refused(make_store, tmp_path, unit, words):
    """A radius needs its column, and a pixel scale to be compared with pixels."""
    store = make_store(attrs={"pixel_scale": float("nan")})
    with pytest.raises(FigureError, match=words or "expected both for `unit`"):
        render_figure("radial-profile", store, Query(n=None), tmp_path / "f.pdf", unit=unit)
