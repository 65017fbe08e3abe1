"""Checks of answers: what is a cutout of the sky, and what is not."""

import numpy as np
import pytest
from PIL import Image
from surveys import Sky, draw_nothing, encode

from galfig.survey.checks import MAX_SHARE, accept_jpeg, describe_page, is_without_sky
from galfig.survey.service import Answer, RefusedAnswerError


def test_a_cutout_is_accepted_as_it_is():
    """Byte by byte."""
    sky = Sky(8)
    data = encode(sky.draw(120.0, sky.table["dec"][0], 128, 0.396))
    assert accept_jpeg(Answer("image/jpeg", data), 128) == data


@pytest.mark.parametrize(
    ("answer", "words", "is_final"),
    [
        (Answer("image/jpeg", b"<html><p>Sorry</p></html>"), "a page .*: 'Sorry'", False),
        (Answer("text/plain", b"Sorry"), "a page .*: 'Sorry'", False),
        (Answer("image/png", b"\x89PNG"), "is of 'image/png', expected image/jpeg", False),
        (Answer("", b"\xff\xd8\xff"), "is of no type", False),
        (Answer("image/jpeg", b""), "begins with b'', expected a JPEG", False),
        (Answer("image/jpeg", b"\xff\xd8\xff"), "cannot be decoded", False),
        (Answer("image/jpeg", encode(draw_nothing(64))), "64 × 64 pixels", True),
        (Answer("image/jpeg", encode(draw_nothing(128))), "a picture without sky", True),
    ],
)
def test_what_is_no_cutout_is_refused(answer, words, is_final):
    """The reason says what came; only what would come again is final."""
    with pytest.raises(RefusedAnswerError, match=words) as caught:
        accept_jpeg(answer, 128)
    assert caught.value.is_final is is_final


def test_a_torn_cutout_is_refused():
    """A JPEG that ends too early is not filled with grey."""
    data = encode(np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8))
    with pytest.raises(RefusedAnswerError, match="cannot be decoded"):
        accept_jpeg(Answer("image/jpeg", data[: len(data) // 2]), 128)


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (200, 100, 50), (128, 128, 128)])
def test_one_colour_is_no_sky(color):
    """Also after JPEG, and with some words."""
    flat = np.full((128, 128, 3), color, np.uint8)
    assert is_without_sky(flat)
    decoded = np.asarray(Image.open(__import__("io").BytesIO(encode(flat))))
    assert is_without_sky(decoded)
    assert is_without_sky(draw_nothing(128))


def test_faint_noise_is_sky():
    """Two levels of noise on black are a cutout without a bright source."""
    noise = np.random.default_rng(0).normal(3, 3, (128, 128, 3)).clip(0, 255).astype(np.uint8)
    assert not is_without_sky(noise)


@pytest.mark.parametrize("name", ["sdss-oh", "sdss-z-mass", "sdss-many"])
def test_no_real_cutout_is_taken_for_none(real_data, name):
    """All of up to 1500 real cutouts are accepted, of which the faintest have hardly any light."""
    files = sorted((real_data(name) / "images").glob("*.jpg"))[:1500]
    for file in files:
        accept_jpeg(Answer("image/jpeg", file.read_bytes()), 128)
    assert len(files) >= 400
    assert MAX_SHARE > 0.8


def test_a_page_is_quoted_without_its_markup():
    """Neither scripts, nor escapes that act on a terminal."""
    data = b"<html><style>p {}</style><script>x()</script><p>a &amp; b\x1b[2J</p><br"
    assert describe_page(data) == repr("a & b\x1b[2J")
    assert describe_page(b"<p></p>") == "empty"
    assert len(describe_page(b"x" * 10_000)) < 300
