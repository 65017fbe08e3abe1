"""Radial profile: known maps, at any resolution and in units of a radius."""

import numpy as np
import pytest

from galfig.errors import FigureError
from galfig.figures.radial_profile import bin_radii, measure_profiles
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
        mean, error, n, edges = measure_profiles(store, np.arange(12))
    middle = (edges[:-1] + edges[1:]) / 2
    np.testing.assert_allclose(mean[0], 10 - middle, atol=0.6 * np.diff(edges)[0])
    np.testing.assert_allclose(mean[1], -2.0, rtol=1e-3)
    np.testing.assert_allclose(error, 0, atol=1e-6)
    assert n.tolist() == [12] * len(middle)
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


def test_mean_and_band_are_those_of_the_galaxies(make_store):
    """The mean over galaxies and its standard error, as numpy computes them from all at once."""
    cams = np.random.default_rng(0).normal(3, 2, (12, 2, 12, 12)).astype(np.float32)
    with open_store(make_store(map_size=12, cams=cams)) as store:
        found = measure_profiles(store, np.arange(12))
        annulus = bin_radii((12, 12), 24, found.edges)
        each = np.array(
            [
                [[cam[annulus == b].mean(dtype=float) for b in range(len(found.n))] for cam in pair]
                for pair in (store.cams(index) for index in range(12))
            ]
        )
        shuffled = measure_profiles(store, np.random.default_rng(1).permutation(12))
        one = measure_profiles(store, np.array([4]))
    np.testing.assert_allclose(found.mean, each.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.error, each.std(axis=0, ddof=1) / np.sqrt(12), rtol=1e-12)
    # Neither a seed nor the order of the galaxies changes a digit.
    for one_array, another in zip(found, shuffled, strict=True):
        np.testing.assert_array_equal(one_array, another)
    np.testing.assert_allclose(one.mean, each[4])
    assert np.isnan(one.error).all()


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
    np.testing.assert_allclose(profiles.mean[0], 5 - middle, atol=0.08)
    # The standard error of twelve: the scatter is below 0.07.
    assert np.nanmax(profiles.error) < 0.02
    # 48 pixels are 19 arcsec, and nine galaxies in ten reach out to 3.4 of their own radii.
    assert profiles.edges[-1] == pytest.approx(np.quantile(48 * 0.396 / arcsec, 0.1))
    assert (profiles.n[0], profiles.n[-1]) == (12, 10)
    render_figure("radial-profile", path, Query(n=None), tmp_path / "f.pdf", unit="R50")
    words = (tmp_path / "f.txt").read_text()
    assert "in units of each galaxy's R50; 1 galaxy without one is left out." in words
    with open_store(path) as store:
        n = measure_profiles(store, np.arange(11), arcsec[:-1] / 0.396).n[-1]
    assert n < 11
    assert f"the outermost averages {n} of 11 galaxies." in words


@pytest.mark.parametrize(
    ("unit", "words"), [("R90", "column of the catalog: 'objID', 'z'"), ("z", "")]
)
def test_unit_without_a_scale_or_a_column_is_refused(make_store, tmp_path, unit, words):
    """A radius needs its column, and a pixel scale to be compared with pixels."""
    store = make_store(attrs={"pixel_scale": float("nan")})
    with pytest.raises(FigureError, match=words or "expected both for `unit`"):
        render_figure("radial-profile", store, Query(n=None), tmp_path / "f.pdf", unit=unit)
