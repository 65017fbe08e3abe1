"""Names by position, against astropy: cut off, never rounded, and nothing claimed."""

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord

from galfig.errors import StoreError
from galfig.store.designations import (
    designate,
    find_sky_columns,
    match_sky_columns,
    name_by_position,
)
from galfig.store.reader import open_store


def test_names_are_those_of_the_position_cut_off():
    """Read back by astropy: less than one unit of the last digit from the galaxy, towards zero."""
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(0, 360, 2000), np.degrees(np.arcsin(rng.uniform(-1, 1, 2000)))
    names = designate(ra, dec, "")
    words = [f"{n[:2]} {n[2:4]} {n[4:9]} {n[9:12]} {n[12:14]} {n[14:]}" for n in names]
    found = SkyCoord(words, unit=(units.hourangle, units.deg))
    time = ra * 240 - found.ra.deg * 240
    arc = np.abs(dec) * 3600 - np.abs(found.dec.deg) * 3600
    assert time.min() > -1e-6
    assert time.max() < 0.01 + 1e-6
    assert arc.min() > -1e-6
    assert arc.max() < 0.1 + 1e-6
    assert {len(name) for name in names} == {18}


@pytest.mark.parametrize(
    ("hms", "dms", "name"),
    [
        ("01:23:45.67", "+01:23:45.6", "J012345.67+012345.6"),
        ("09:42:35.769", "+24:12:31.39", "J094235.76+241231.3"),
        ("00:00:00.00", "-00:00:00.5", "J000000.00-000000.5"),
        ("23:59:59.999", "-89:59:59.99", "J235959.99-895959.9"),
        ("12:34:56.70", "+90:00:00.0", "J123456.70+900000.0"),
    ],
)
def test_known_names(hms, dms, name):
    """Exact digits are kept, those behind them dropped, and the sign survives zero degrees."""
    place = SkyCoord(hms, dms, unit=(units.hourangle, units.deg))
    assert designate([place.ra.deg], [place.dec.deg]) == (name,)


def test_right_ascension_may_be_written_otherwise():
    assert designate([-10.0, 370.0], [1.0, 1.0]) == designate([350.0, 10.0], [1.0, 1.0])


@pytest.mark.parametrize(("ra", "dec"), [(np.nan, 1.0), (10.0, np.inf), (10.0, 90.5), (800, 0)])
def test_no_name_without_a_position(ra, dec):
    assert designate([ra], [dec]) == ("",)


@pytest.mark.parametrize("columns", [("ra", "dec"), ("RA", "Dec"), ("RAJ2000", "DEJ2000")])
def test_columns_are_found_in_any_case(make_store, columns):
    """And the prefix is the user's: by itself, a name claims no survey."""
    places = {columns[0]: np.linspace(10, 20, 12), columns[1]: np.linspace(-5, 5, 12)}
    with open_store(make_store(catalog=places)) as store:
        assert find_sky_columns(store) == columns
        assert name_by_position(store, np.array([0, 11])) == (
            "J004000.00-050000.0",
            "J012000.00+050000.0",
        )
        assert name_by_position(store, np.array([0]), "SDSS J")[0] == "SDSS J004000.00-050000.0"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["z", "ra", "dec"], ("ra", "dec")),
        (["RAJ2000", "DECJ2000"], ("RAJ2000", "DECJ2000")),
        (["_RAJ2000", "_DEJ2000"], ("_RAJ2000", "_DEJ2000")),
        (["ra_deg", "dec_deg"], ("ra_deg", "dec_deg")),
        (["era", "decade"], None),
        (["ra"], None),
    ],
)
def test_positions_are_found_by_their_names(names, expected):
    """And nothing is taken for them that only begins alike."""
    assert match_sky_columns(names) == expected


def test_a_store_without_positions_says_so(store_path, make_store):
    with open_store(store_path) as store, pytest.raises(StoreError, match="no position of its"):
        find_sky_columns(store)
    text = {"ra": np.array(["x"] * 12, object), "dec": np.zeros(12)}
    with (
        open_store(make_store("t.h5", catalog=text)) as store,
        pytest.raises(StoreError, match="'ra' holds text, expected degrees"),
    ):
        name_by_position(store, np.array([0]))
