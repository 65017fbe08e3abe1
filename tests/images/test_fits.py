"""FITS images: the sky's orientation, astropy's stretch, and damage named."""

import gzip
import io

import numpy as np
import pytest
from astropy.io import fits
from astropy.visualization import AsinhStretch, ManualInterval

from galfig.errors import CutoutError
from galfig.images.cutouts import Decoding, read_cutout
from galfig.images.fits import decode_fits, is_fits


def as_fits(values, kind=fits.PrimaryHDU):
    stream = io.BytesIO()
    hdus = [kind(values)] if kind is fits.PrimaryHDU else [fits.PrimaryHDU(), kind(values)]
    fits.HDUList(hdus).writeto(stream)
    return stream.getvalue()


@pytest.fixture
def sky():
    values = np.random.default_rng(0).normal(0.1, 0.02, (20, 30)).astype(np.float32)
    values[2, 3] = 40.0
    return values


def test_image_is_stretched_as_astropy_does_top_row_first(sky):
    """The first row of FITS is the lowest; between the limits the stretch is asinh."""
    pixels = decode_fits(as_fits(sky), (0.0, 50.0))
    expected = 255 * AsinhStretch(0.1)(ManualInterval(0.0, 50.0)(sky))
    np.testing.assert_array_equal(pixels, np.rint(expected).astype(np.uint8)[::-1])
    assert pixels.argmax() == (20 - 1 - 2) * 30 + 3


@pytest.mark.parametrize("dtype", [">i2", "u2", "f8", "i4"])
@pytest.mark.parametrize("kind", [fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU])
def test_every_number_format_and_kind_of_image(dtype, kind):
    """Integers, with an offset or not, floats, extensions and tile compression are all read."""
    values = np.arange(400).reshape(20, 20).astype(dtype)
    pixels = decode_fits(as_fits(values, kind), (0, 399))
    expected = 255 * AsinhStretch(0.1)(np.arange(400).reshape(20, 20) / 399)
    assert np.abs(pixels[::-1].astype(int) - expected).max() < (4 if dtype == "f8" else 0.51)


def test_cube_goes_from_blue_to_red():
    """The last plane is red; grey in all planes stays grey, stretched as one plane is."""
    cube = np.zeros((3, 8, 8))
    cube[2] = 1.0
    pixels = decode_fits(as_fits(cube), (0, 1))
    assert (pixels[..., 0] > 100).all()
    assert pixels[..., 1:].max() == 0
    grey = np.repeat(np.linspace(0, 1, 64).reshape(1, 8, 8), 3, axis=0)
    colour, plane = decode_fits(as_fits(grey), (0, 1)), decode_fits(as_fits(grey[0]), (0, 1))
    assert np.abs(colour.astype(int) - plane[..., None]).max() <= 1


def test_gzip_and_missing_pixels(sky, tmp_path):
    """NaN is black, constant images are grey, and gzip is undone."""
    sky[0, 0] = np.nan
    data = gzip.compress(as_fits(sky))
    assert is_fits(data)
    assert decode_fits(data)[-1, 0] == 0
    assert len(np.unique(decode_fits(as_fits(np.full((5, 5), 3.0))))) == 1
    path = tmp_path / "a.fits.gz"
    path.write_bytes(data)
    assert read_cutout(path, 16).shape == (16, 16, 3)
    assert read_cutout(path, 16, Decoding(1, (0.0, 1.0))).shape == (16, 16, 1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((4, 8, 8)), "8 × 8 × 4, expected one plane or three"),
        (np.zeros((2, 3, 8, 8)), "expected one plane or three"),
        (np.zeros((5, 8, 8)), "8 × 8 × 5, expected one plane or three"),
        (np.zeros(64), "an image of 64, expected one plane or three"),
        (np.full((8, 8), np.nan), "no finite value"),
        (np.tile([-1.5e308, 1.5e308], (8, 4)), "a range beyond float64"),
        (np.zeros((3, 9)), "9 × 3 pixels, expected at least 8 on each side"),
        (None, "without an image"),
    ],
)
def test_what_is_no_cutout_is_named(tmp_path, values, words):
    """Other shapes, tables and blank frames say what they are."""
    path = tmp_path / "a.fits"
    path.write_bytes(as_fits(values))
    with pytest.raises(CutoutError, match=words):
        read_cutout(path, 8)


def test_scale_and_blanks_of_the_header_are_applied():
    """BSCALE and BZERO give the fluxes, and BLANK is black like NaN."""
    hdu = fits.PrimaryHDU(np.arange(64, dtype=np.int16).reshape(8, 8))
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 100.0, 63
    stream = io.BytesIO()
    fits.HDUList([hdu]).writeto(stream)
    plain = np.arange(64.0).reshape(8, 8) / 2 + 100
    plain[7, 7] = np.nan
    data = stream.getvalue().replace(
        b"BSCALE  =                  1.0", b"BSCALE  =                  0.5"
    )
    np.testing.assert_array_equal(
        decode_fits(data, (100, 140)), decode_fits(as_fits(plain), (100, 140))
    )


def test_first_image_is_found_behind_a_table():
    """An image in an extension is used, a table before it passed over; a table alone is none."""
    values = np.arange(64.0).reshape(8, 8)
    table = fits.BinTableHDU.from_columns([fits.Column("z", "D", array=np.zeros(3))])
    streams = [io.BytesIO(), io.BytesIO()]
    fits.HDUList([fits.PrimaryHDU(), table, fits.ImageHDU(values)]).writeto(streams[0])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(streams[1])
    expected = decode_fits(as_fits(values))
    np.testing.assert_array_equal(decode_fits(streams[0].getvalue()), expected)
    with pytest.raises(ValueError, match="without an image"):
        decode_fits(streams[1].getvalue())


@pytest.mark.parametrize("n_planes", [1, 3])
def test_infinities_are_as_bright_or_faint_as_can_be(n_planes):
    """Infinite pixels are white or black, do not shift the others, and nothing is warned of."""
    planes = np.repeat(np.linspace(0, 1, 400).reshape(1, 20, 20), n_planes, axis=0)
    expected = decode_fits(as_fits(planes), (0, 1))
    planes[:, 0, 0], planes[:, 0, 1], planes[:, 0, 2] = np.inf, -np.inf, np.nan
    pixels = decode_fits(as_fits(planes), (0, 1))
    assert (pixels[-1, 0] >= 254).all()
    assert not pixels[-1, 1:3].any()
    np.testing.assert_array_equal(pixels[:-1], expected[:-1])
    assert decode_fits(as_fits(planes)).std() > 10


@pytest.mark.parametrize("cut", [100, 2880, 3000, 4000])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_truncated_files_are_refused(sky, tmp_path, cut, compress):
    """A file that ends too early is no darker galaxy."""
    data = compress(as_fits(sky))
    path = tmp_path / "a.fits"
    path.write_bytes(data[: min(cut, len(data) - 200)])
    with pytest.raises(CutoutError):
        read_cutout(path, 8)


def test_huge_images_are_refused_before_they_are_read(tmp_path):
    """A header of 2 kB may not ask for 80 GB."""
    header = fits.Header([("SIMPLE", True), ("BITPIX", -64), ("NAXIS", 2)])
    header["NAXIS1"] = header["NAXIS2"] = 100_000
    path = tmp_path / "a.fits"
    path.write_bytes(header.tostring().encode())
    with pytest.raises(CutoutError, match="10000000000 values, expected 1 to"):
        read_cutout(path, 8)
