"""hips2fits: what it is asked, which of its answers are taken, and that astroquery agrees."""

import re

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, Latitude, Longitude
from astropy.io import fits
from dialects import answer_hips, write_fits

from galfig.errors import ConfigError
from galfig.survey.hips import MIRROR, make_service, name_bands
from galfig.survey.service import Answer, RefusedAnswerError, Target

GALAXY = Target("g1", 150.1, -2.25)
COLOUR, BAND = "CDS/P/SDSS9/color", "CDS/P/DESI-Legacy-Surveys/DR10/r"


def ask(service, target=GALAXY):
    """Ask the dialect of hips2fits, and check what it answers."""
    reply = answer_hips(service.make_params(target))
    assert reply.status == 200
    return service.accept_of(target, Answer(reply.content_type, reply.body))


@pytest.mark.parametrize("kind", ["jpg", "png", "fits"])
@pytest.mark.parametrize("stretch", ["linear", "asinh"])
def test_parameters_are_those_of_astroquery(kind, stretch):
    """Each of the same name and value; a colour map and cuts of FITS change nothing there."""
    hips2fits = pytest.importorskip("astroquery.hips2fits").hips2fits
    service = make_service(
        BAND, format=kind, size=80, pixel_scale=0.5, stretch=stretch, cut=(1, 99)
    )
    asked = service.make_params(GALAXY)
    theirs = hips2fits.query(
        hips=BAND,
        width=80,
        height=80,
        projection="TAN",
        ra=Longitude(150.1 * u.deg),
        dec=Latitude(-2.25 * u.deg),
        fov=Angle(80 * 0.5 / 3600 * u.deg),
        coordsys="icrs",
        rotation_angle=Angle(0 * u.deg),
        format=kind,
        min_cut=1,
        max_cut=99,
        stretch=stretch,
        get_query_payload=True,
    )
    left_out = {"cmap"} if kind != "fits" else {"cmap", "stretch", "min_cut", "max_cut"}
    assert set(asked) == set(theirs) - left_out
    for key, value in asked.items():
        if isinstance(theirs[key], float):
            assert float(value) == pytest.approx(theirs[key], rel=1e-6), key
        else:
            assert value == str(theirs[key]), key


def test_addresses_are_those_of_astroquery():
    """The service, which it asks by default, and its mirror."""
    package = pytest.importorskip("astroquery.hips2fits")
    service, mirror = make_service(BAND), make_service(BAND, base_url=MIRROR)
    assert package.conf.server == service.address + service.path
    assert mirror.address + mirror.path in package.__doc__
    assert mirror.is_mirror
    assert not service.is_mirror


@pytest.mark.parametrize(("hips", "kind"), [(COLOUR, "jpg"), (COLOUR, "png"), (BAND, "fits")])
@pytest.mark.parametrize("size", [47, 48])
def test_cutouts_are_taken_as_they_come(hips, kind, size):
    """Pictures of colours, and one band with its positions."""
    service = make_service(hips, format=kind, size=size)
    reply = answer_hips(service.make_params(GALAXY))
    assert ask(service) == reply.body
    assert len(reply.body) <= service.max_bytes


@pytest.mark.parametrize(
    ("service", "target", "reason"),
    [
        (
            make_service(COLOUR, size=48),
            Target("a", 10, 70),
            "a picture without sky",
        ),
        (
            make_service(BAND, format="fits", size=48),
            Target("a", 10, 70),
            "holds no data",
        ),
        (
            make_service(COLOUR, format="fits", size=48),
            GALAXY,
            "of 48 × 48 × 3 values",
        ),
    ],
)
def test_blank_and_other_answers_are_refused(service, target, reason):
    """Outside of the HiPS, and colours in place of a band."""
    with pytest.raises(RefusedAnswerError, match=reason) as caught:
        ask(service, target)
    assert caught.value.is_final


def test_a_frame_of_nan_is_no_fault():
    """At the edge of a HiPS, as long as the galaxy lies within."""
    service = make_service(BAND, format="fits", size=48)
    reply = answer_hips(service.make_params(GALAXY))
    hdus = fits.HDUList.fromstring(reply.body)
    values = np.array(hdus[0].data)
    values[:, :16] = np.nan
    data = write_fits(values, hdus[0].header)
    assert service.accept_of(GALAXY, Answer("image/fits", data)) == data


@pytest.mark.parametrize(
    ("hips", "keys", "message"),
    [
        ("DSS2", {}, "`hips` 'DSS2': expected the identifier of a HiPS, such as"),
        ("CDS/P/../x", {}, "`hips` 'CDS/P/../x'"),
        ("CDS/P/a b", {}, "`hips` 'CDS/P/a b'"),
        (BAND, {"size": 7001}, "`size` 7001: expected a number from 8 to 7000"),
        (BAND, {"cut": (99, 1)}, "`cut` 99, 1: expected two increasing percentiles"),
        (BAND, {"stretch": "lupton"}, "stretch"),
        (BAND, {"format": "gif"}, "format"),
    ],
)
def test_values_that_the_service_does_not_know_are_refused(hips, keys, message):
    """Before anything is asked; a word that is no identifier would get any HiPS by chance."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_service(hips, **keys)


def test_bands_have_the_names_of_the_ends_of_their_hips():
    """Two of one name would be one file."""
    assert name_bands(["CDS/P/PanSTARRS/DR1/i", "CDS/P/PanSTARRS/DR1/g"]) == ("i", "g")
    with pytest.raises(ConfigError, match="bands 'g', 'g', expected HiPS with short names that di"):
        name_bands(["CDS/P/PanSTARRS/DR1/g", "CDS/P/SDSS9/g"])
