"""FITS answers: what was asked for is taken, and anything else is refused with the reason."""

import io

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from dialects import answer_hips, answer_legacy, draw_fluxes, write_fits, write_picture

from galfig.images.decoders import UnusableError
from galfig.survey import planes
from galfig.survey.planes import Field, accept_fits, check_place, check_planes, has_data
from galfig.survey.service import Answer, RefusedAnswerError, Target

FIELD = Field(0.3, 40, ("g", "r", "z"), "ls-dr10")
GALAXY = Target("g1", 150.0, 2.5)


def ask_legacy(field=FIELD, target=GALAXY, **query):
    """The cube that the viewer gives for a galaxy."""
    asked = {"ra": target.ra, "dec": target.dec, "pixscale": field.pixel_scale, "size": field.size}
    asked |= {"layer": field.origin, "bands": "".join(field.bands)}
    return answer_legacy("/cutout.fits", {key: str(asked[key]) for key in asked} | query).body


def ask_hips(field, target):
    """The band that hips2fits gives for a galaxy."""
    asked = {"ra": target.ra, "dec": target.dec, "fov": field.pixel_scale * field.size / 3600}
    asked |= {"width": field.size, "height": field.size, "projection": "TAN", "hips": field.origin}
    return answer_hips({key: str(asked[key]) for key in asked}).body


def change(data, values=None, **cards):
    """The file with other values, or other cards of its header."""
    with fits.open(io.BytesIO(data)) as hdus:
        hdus[0].header.update(cards)
        stream = io.BytesIO()
        new = fits.PrimaryHDU(hdus[0].data if values is None else values, hdus[0].header)
        new.writeto(stream)
    return stream.getvalue()


@pytest.mark.parametrize(("ra", "dec"), [(150.0, 2.5), (0.0, -89.0), (359.9999, 59.9), (10.0, 0.0)])
@pytest.mark.parametrize("size", [40, 41])
def test_what_was_asked_for_is_taken(ra, dec, size):
    """Cubes of the viewer and bands of hips2fits, of even and odd sizes, near the pole too."""
    cube, target = FIELD._replace(size=size), Target("g1", ra, dec)
    data = ask_legacy(cube, target)
    check_planes(data, cube, "BANDS")
    check_place(target, data, size)
    band = cube._replace(bands=("r",), origin="CDS/P/DESI-Legacy-Surveys/DR10/r")
    data = ask_hips(band, target)
    check_planes(data, band)
    check_place(target, data, size)


def test_wcs_is_that_of_the_field():
    """By astropy: the galaxy is in the middle, north is up and east to the left."""
    with fits.open(io.BytesIO(ask_legacy())) as hdus:
        wcs = WCS(hdus[0].header, naxis=2)
    place = wcs.world_to_pixel_values(150.0, 2.5)
    np.testing.assert_allclose(place, 19.5, atol=1e-6)
    east = wcs.world_to_pixel_values(150.0 + 1 / 3600, 2.5)
    north = wcs.world_to_pixel_values(150.0, 2.5 + 3 / 3600)
    assert east[0] < 17
    assert north[1] == pytest.approx(29.5, abs=1e-3)


@pytest.mark.parametrize(
    ("make", "reason", "is_final"),
    [
        (lambda: ask_legacy(size="30"), r"an image of 30 × 30 × 3 values, expected 40 × 40 × 3", 1),
        (lambda: ask_legacy(bands="gr"), r"an image of 40 × 40 × 2 values", 1),
        (lambda: ask_legacy(bands="x"), r"an image of 40 × 40 × 4 values", 1),
        (lambda: ask_legacy(bands="gri"), r"bands 'gri', expected 'grz'", 1),
        (lambda: ask_legacy(pixscale="0.262"), r"pixels of 0.262 × 0.262 arcsec, or turned", 1),
        (lambda: change(ask_legacy(), CD2_2=-0.3 / 3600), r"pixels of 0.3 × -0.3 arcsec", 1),
        (lambda: change(ask_legacy(), CD1_2=0.01 / 3600), r"or turned, expected 0.3 arcsec", 1),
        (lambda: change(ask_legacy(), CTYPE1="X", CTYPE2="Y"), r"without positions on the sky", 1),
        (lambda: change(ask_legacy(), np.zeros((3, 40, 40))), r"band g holds no data", 1),
        (lambda: change(ask_legacy(), np.full((3, 40, 40), np.nan)), r"band g holds no data", 1),
        (lambda: ask_legacy()[:9000], r"cannot be decoded|cut short", 0),
        (lambda: ask_legacy()[:2000], r"a FITS header without an end", 0),
        (lambda: b"<html><body>busy</body></html>", r"a page in place of the file: 'busy'", 0),
        (lambda: write_picture(np.zeros((40, 40, 3), np.uint8)), r"a picture, expected FITS", 0),
        (lambda: b"", r"begins with b''", 0),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_the_reason(make, reason, is_final):
    """What is whole and wrong would come again; what is damaged may not."""
    with pytest.raises(RefusedAnswerError, match=reason) as caught:
        accept_fits(Answer("image/fits", make()), FIELD, "BANDS")
    assert caught.value.is_final == bool(is_final)


def test_a_band_that_was_not_observed_is_named():
    """All others hold data there."""
    data = ask_legacy(target=Target("g2", 200.5, 1.0))
    with pytest.raises(UnusableError, match=r"^band z holds no data at the galaxy: outside ls-dr"):
        check_planes(data, FIELD, "BANDS")


def test_another_place_is_refused():
    """A service that mixes up its answers, and one that cuts the last digits of positions off."""
    check_place(Target("g1", 150.0 + 0.2 / 3600, 2.5 - 0.2 / 3600), ask_legacy(), 40)
    for target, reason in (
        (Target("g1", 150.001, 2.5), r"the galaxy lies -11.99, .* pixels from the middle"),
        (Target("g1", 330.0, -2.5), r"the galaxy lies nan, nan pixels|cannot be decoded"),
    ):
        with pytest.raises(RefusedAnswerError, match=reason):
            check_place(target, ask_legacy(), 40)
    with pytest.raises(RefusedAnswerError, match="expected FITS"):
        check_place(GALAXY, b"<html>", 40)


def test_the_edge_of_the_survey_is_no_fault():
    """Half of the cutout may lie outside, as long as the galaxy does not."""
    plane = draw_fluxes(1.0, 2.0, 40, 0.3, "r")[0]
    plane[:, :18] = np.nan
    assert has_data(plane)
    plane[:, 10:30] = 0
    assert not has_data(plane)


def test_answers_of_other_types_are_refused():
    """By their media type, before they are read."""
    with pytest.raises(RefusedAnswerError, match="is of 'image/gif', expected image/fits or"):
        accept_fits(Answer("image/gif", ask_legacy()), FIELD, "BANDS")


def test_first_image_that_is_a_table_is_refused():
    """Its values are none of a picture."""
    data = write_fits(None, {"OVERLAP": False})
    with pytest.raises(UnusableError, match="an image of no values, expected 40 × 40 × 3"):
        check_planes(data, FIELD)


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 30_000, "B_ORDER": 30_000},
        {"WCSAXES": 100_000},
        {"CTYPE1": "RA---TAB", "CTYPE2": "DEC--TAB"},
    ],
)
def test_a_header_that_would_fill_the_memory_is_refused(cards):
    """Astropy would allocate what such headers state."""
    header = fits.Header(cards)
    with pytest.raises(UnusableError, match="unusual positions"):
        planes._read_wcs(header)
