"""The viewer of the Legacy Surveys: what it is asked, and which of its answers are taken."""

import re

import numpy as np
import pytest
from dialects import answer_legacy, draw_picture, write_picture

from galfig.errors import ConfigError
from galfig.survey.legacy import make_service, write_degrees
from galfig.survey.service import Answer, RefusedAnswerError, Target

GALAXY = Target("g1", 150.1, 2.25)


def ask(service, target=GALAXY):
    """Ask the dialect of the viewer, and check what it answers."""
    reply = answer_legacy(service.path, service.make_params(target))
    assert reply.status == 200
    return service.accept_of(target, Answer(reply.content_type, reply.body))


def test_parameters_are_those_of_the_documentation():
    """ra, dec, layer, pixscale, size and bands."""
    assert make_service().make_params(GALAXY) == {
        **{"ra": "150.1", "dec": "2.25", "layer": "ls-dr10", "pixscale": "0.262", "size": "192"},
    }
    service = make_service(layer="ls-dr9-north", format="fits", size=64, pixel_scale=0.5)
    assert service.make_params(GALAXY) == {
        **{"ra": "150.1", "dec": "2.25", "layer": "ls-dr9-north", "pixscale": "0.5"},
        **{"size": "64", "bands": "grz"},
    }
    assert service.address + service.path == "https://www.legacysurvey.org/viewer/cutout.fits"
    assert make_service().path == "/viewer/cutout.jpg"
    for base in ("http://mirror.example", "http://mirror.example/viewer/"):
        assert make_service(base_url=base).address == "http://mirror.example"
    assert (service.suffix, service.bands, service.release) == (".fits", "z, r, g", "ls-dr9-north")
    assert service.is_north_up
    assert not service.is_mirror


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (1e-5, "0.00001"), (359.123456789, "359.12345679"), (-10.0, "-10"), (1e-12, "0")],
)
def test_degrees_are_written_without_an_exponent(value, words):
    """To a hundred-millionth of a degree, 36 microarcseconds."""
    assert write_degrees(value) == words


@pytest.mark.parametrize("kind", ["jpg", "fits"])
@pytest.mark.parametrize("bands", [None, "g", "rz", "griz"])
def test_cutouts_are_taken_as_they_come(kind, bands):
    """Pictures and cubes, and one band, which is no cube."""
    service = make_service(format=kind, bands=bands, size=48)
    reply = answer_legacy(service.path, service.make_params(GALAXY))
    assert ask(service) == reply.body
    # The estimate is of the right size, and below the largest answer that is read.
    assert len(reply.body) <= service.max_bytes
    if kind == "fits":
        assert service.bytes_each == pytest.approx(len(reply.body), rel=0.3)


@pytest.mark.parametrize(
    ("keys", "target", "reason"),
    [
        ({}, Target("a", 10, 70), "a picture without sky, outside the survey"),
        ({"format": "fits"}, Target("a", 10, 70), "band g holds no data at the galaxy"),
        ({"format": "fits"}, Target("a", 200.5, 1), "band z holds no data at the galaxy"),
        ({"format": "fits", "layer": "ls-dr9", "bands": "i"}, GALAXY, "an image of 48 × 48 × 3"),
        ({"format": "fits", "layer": "sdss", "bands": "riz"}, GALAXY, "bands 'gri', expected"),
    ],
)
def test_blank_and_other_answers_are_refused(keys, target, reason):
    """Outside the footprint, without a band, and with bands that the layer has in its place."""
    with pytest.raises(RefusedAnswerError, match=reason) as caught:
        ask(make_service(size=48, **keys), target)
    assert caught.value.is_final


def test_answers_that_are_cut_to_the_largest_size_are_refused():
    """The viewer silently gives fewer pixels, of another field of view."""
    service = make_service(size=64)
    small = write_picture(draw_picture(150.1, 2.25, 48, 0.262))
    with pytest.raises(RefusedAnswerError, match="48 × 48 pixels, expected 64 × 64"):
        service.accept_of(GALAXY, Answer("image/jpeg", small))


def test_black_pictures_are_refused():
    """As of a galaxy outside of all bricks."""
    black = write_picture(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(RefusedAnswerError, match="without sky"):
        make_service(size=64).accept_of(GALAXY, Answer("image/jpeg", black))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layer": "ls dr10"}, "`layer` 'ls dr10': expected a layer such as 'ls-dr10'"),
        ({"layer": "../x"}, "`layer` '../x'"),
        ({"size": 3001}, "`size` 3001: expected a number from 8 to 3000"),
        ({"pixel_scale": 0.0}, "`pixel_scale` 0: expected a number from 0.01 to 60"),
        ({"bands": "gg"}, "`bands` 'gg': expected letters such as 'grz', each once"),
        ({"bands": "g,r"}, "`bands` 'g,r'"),
        ({"format": "png"}, "format"),
        ({"base_url": "ftp://x"}, "`base_url`"),
    ],
)
def test_values_that_the_viewer_does_not_know_are_refused(keys, message):
    """Before anything is asked."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_service(**keys)
