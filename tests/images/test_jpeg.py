"""JPEG: the pixels are those of Pillow, whoever decodes, and damage is found by either."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from galfig.images import raster
from galfig.images.jpeg import N_COMPARED, JpegDecoder, find_decoder
from galfig.images.raster import decode_raster

# Sampling of colours, as Pillow numbers it.
SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def draw_scene(height, width, seed=0):
    """Draw colours of all scales, with edges and noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((width, height))
    fine = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    return Image.blend(coarse, fine.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2))), 0.3)


def encode(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def decode_or_fail(data, n_channels=3):
    """Return the pixels, or the words of the error."""
    try:
        return decode_raster(data, n_channels)
    except ValueError as exc:
        return str(exc)


@pytest.fixture
def decode_both(monkeypatch):
    """Decode a file by simplejpeg, which is trusted at once, and by Pillow alone."""
    simplejpeg = pytest.importorskip("simplejpeg")
    monkeypatch.setattr("galfig.images.jpeg.N_COMPARED", 0)
    used = []

    def decode(data):
        pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
        used.append(pixels)
        return pixels

    def run(data, n_channels=3):
        results = []
        for decoder in (JpegDecoder(decode), JpegDecoder(None)):
            monkeypatch.setattr(raster, "find_decoder", lambda decoder=decoder: decoder)
            results.append(decode_or_fail(data, n_channels))
        return *results, used

    return run


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 30},
        {"quality": 100},
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_blocks": 3},
        {"restart_marker_rows": 1, "progressive": True},
        {"dpi": (72, 72), "comment": b"a galaxy"},
    ],
    ids=str,
)
def test_pixels_are_those_of_pillow(decode_both, sampling, options):
    """Of every sampling of colours and way of coding, of sides that are no multiple of a block."""
    for seed, shape in enumerate([(424, 424), (97, 131), (16, 8), (33, 17)]):
        data = encode(draw_scene(*shape, seed), subsampling=SAMPLINGS[sampling], **options)
        found, expected, used = decode_both(data)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.uint8
        assert len(used) == seed + 1


def test_colours_that_are_not_transformed(decode_both):
    """Adobe's marker says that the components are red, green and blue."""
    data = encode(draw_scene(64, 48), keep_rgb=True)
    found, expected, used = decode_both(data)
    np.testing.assert_array_equal(found, expected)
    assert used


@pytest.mark.parametrize("orientation", [2, 6])
def test_turned_images_are_left_to_pillow(decode_both, orientation):
    """So are grey ones, colours that become grey, and other channels, which are refused."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(draw_scene(40, 24), exif=exif)
    found, expected, used = decode_both(data)
    np.testing.assert_array_equal(found, expected)
    assert found.shape == ((24, 40, 3) if orientation == 6 else (40, 24, 3))
    for image, n_channels in [("L", 3), ("L", 1), ("RGB", 1), ("CMYK", 3)]:
        found, expected, used = decode_both(encode(draw_scene(40, 24).convert(image)), n_channels)
        np.testing.assert_array_equal(found, expected)
    assert not used


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_damage_is_found_by_either(decode_both, options):
    """Cut off anywhere or with other bytes in it, an image gives the same pixels or the same words.

    A file of 12 bits, which neither decodes, is among them.
    """
    data = encode(draw_scene(64, 64), quality=80, **options)
    rng = np.random.default_rng(0)
    deep = bytearray(data)
    deep[data.index(b"\xff\xc2" if "progressive" in options else b"\xff\xc0") + 4] = 12
    damaged = [bytes(deep), data + b"more", data[:-2], data[:-1] + b"\0"]
    damaged += [data[: rng.integers(2, len(data))] for _ in range(60)]
    for _ in range(150):
        copy = bytearray(data)
        for place in rng.integers(2, len(data), rng.integers(1, 4)):
            copy[place] = rng.integers(256)
        damaged.append(bytes(copy))
    n_failed = 0
    for one in damaged:
        found, expected, _ = decode_both(one)
        n_failed += isinstance(expected, str)
        np.testing.assert_array_equal(found, expected)
    assert 40 < n_failed < len(damaged)


def make_header(mode="RGB", sampling=2, **info):
    layer = [(1, sampling, sampling, 0), (2, 1, 1, 1), (3, 1, 1, 1)]
    return SimpleNamespace(mode=mode, info=info, layer=layer)


def test_decoder_is_trusted_after_a_few_images_of_each_kind():
    """Pillow decodes these as well; for another kind, as many once more."""
    pixels, slow = np.ones((2, 2, 3), np.uint8), []

    def decode_slowly():
        slow.append(1)
        return pixels.copy()

    decoder = JpegDecoder(lambda data: pixels)
    for _ in range(N_COMPARED + 3):
        decoder.decode(make_header(), b"", decode_slowly)
    assert len(slow) == N_COMPARED
    for header in (
        make_header(sampling=1),
        make_header(progressive=1),
        make_header(adobe_transform=0),
    ):
        slow.clear()
        for _ in range(N_COMPARED + 3):
            decoder.decode(header, b"", decode_slowly)
        assert len(slow) == N_COMPARED


def test_decoder_with_other_pixels_is_never_used_again():
    """Not for images of this kind."""
    exact, calls = np.ones((2, 2, 3), np.uint8), []

    def decode(data):
        calls.append(1)
        return np.zeros((2, 2, 3), np.uint8)

    decoder = JpegDecoder(decode)
    for _ in range(3):
        found = decoder.decode(make_header(), b"", exact.copy)
        np.testing.assert_array_equal(found, exact)
    assert len(calls) == 1


def test_what_is_refused_is_left_to_pillow():
    """Its pixels and its errors count."""

    def refuse(data):
        raise ValueError("odd")

    exact = np.ones((2, 2, 3), np.uint8)
    for decoder in (JpegDecoder(refuse), JpegDecoder(None)):
        np.testing.assert_array_equal(decoder.decode(make_header(), b"", exact.copy), exact)
    with pytest.raises(OSError, match="truncated"):
        JpegDecoder(refuse).decode(make_header(), b"", _fail)


def _fail():
    raise OSError("image file is truncated")


def test_pillow_alone_is_enough(monkeypatch):
    """Without simplejpeg nothing changes but the time."""
    data = encode(draw_scene(64, 64))
    expected = np.asarray(Image.open(io.BytesIO(data)))
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    find_decoder.cache_clear()
    try:
        np.testing.assert_array_equal(decode_raster(data), expected)
    finally:
        find_decoder.cache_clear()
