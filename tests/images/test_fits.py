"""FITS images: the sky's orientation, astropy's stretch, and damage named."""

import gzip
import io
import struct

import numpy as np
import pytest
from astropy.io import fits
from astropy.visualization import AsinhStretch, ManualInterval, make_lupton_rgb

from galfig.errors import CutoutError
from galfig.images.cutouts import Decoding, read_cutout
from galfig.images.fits import Choice, decode_fits, is_fits, measure_fits
from galfig.images.stretch import PERCENTILES, Lupton, Stretch, _find_percentiles


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
    pixels = decode_fits(as_fits(sky), Stretch((0.0, 50.0)))
    expected = 255 * AsinhStretch(0.1)(ManualInterval(0.0, 50.0)(sky))
    np.testing.assert_array_equal(pixels, np.rint(expected).astype(np.uint8)[::-1])
    assert pixels.argmax() == (20 - 1 - 2) * 30 + 3


@pytest.mark.parametrize("dtype", [">i2", "u2", "f8", "i4"])
@pytest.mark.parametrize("kind", [fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU])
def test_every_number_format_and_kind_of_image(dtype, kind):
    """Integers, with an offset or not, floats, extensions and tile compression are all read."""
    values = np.arange(400).reshape(20, 20).astype(dtype)
    pixels = decode_fits(as_fits(values, kind), Stretch((0, 399)))
    expected = 255 * AsinhStretch(0.1)(np.arange(400).reshape(20, 20) / 399)
    assert np.abs(pixels[::-1].astype(int) - expected).max() < (4 if dtype == "f8" else 0.51)


def test_cube_goes_from_blue_to_red():
    """The last plane is red; grey in all planes stays grey, stretched as one plane is."""
    cube = np.zeros((3, 8, 8))
    cube[2] = 1.0
    pixels = decode_fits(as_fits(cube), Stretch((0, 1)))
    assert (pixels[..., 0] > 100).all()
    assert pixels[..., 1:].max() == 0
    grey = np.repeat(np.linspace(0, 1, 64).reshape(1, 8, 8), 3, axis=0)
    colour, plane = (
        decode_fits(as_fits(grey), Stretch((0, 1))),
        decode_fits(as_fits(grey[0]), Stretch((0, 1))),
    )
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
    assert read_cutout(path, 16, Decoding(1, Stretch((0.0, 1.0)))).shape == (16, 16, 1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((4, 8, 8)), "8 × 8 × 4, expected one plane or three"),
        (np.zeros((2, 3, 8, 8)), "8 × 8 × 3 × 2, expected one of two axes, or a cube of three"),
        (np.zeros((5, 8, 8)), "8 × 8 × 5, expected one plane or three"),
        (np.zeros(64), "without an image"),
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
        decode_fits(data, Stretch((100, 140))), decode_fits(as_fits(plain), Stretch((100, 140)))
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
    expected = decode_fits(as_fits(planes), Stretch((0, 1)))
    planes[:, 0, 0], planes[:, 0, 1], planes[:, 0, 2] = np.inf, -np.inf, np.nan
    pixels = decode_fits(as_fits(planes), Stretch((0, 1)))
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


def compress(kind, values=None, tile=(8, 8)):
    """Return a file of four compressed tiles."""
    values = np.arange(256, dtype=np.int16).reshape(16, 16) if values is None else values
    hdu = fits.CompImageHDU(values, compression_type=kind, tile_shape=tile)
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(stream)
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(40, 50), (3, 40, 50), (41, 1), (1, 41)])
@pytest.mark.parametrize("dtype", ["u1", ">i2", ">f4", ">f8"])
def test_blocks_give_what_the_whole_image_gives(monkeypatch, shape, dtype):
    """Percentiles and stretch of a few rows at a time, against numpy's and astropy's of all."""
    values = (np.random.default_rng(0).normal(60, 20, shape)).astype(dtype)
    whole = values.astype(np.float64)
    intensity = whole if whole.ndim == 2 else whole.mean(axis=0)
    low, high = np.percentile(intensity, PERCENTILES)
    monkeypatch.setattr("galfig.images.stretch.BLOCK", 100)
    pixels = decode_fits(as_fits(values), Stretch(kind="percentiles"))
    if whole.ndim == 2:
        expected = np.rint(255 * AsinhStretch(0.1)(ManualInterval(low, high)(whole)))
        np.testing.assert_array_equal(pixels, expected.astype(np.uint8)[::-1])
    monkeypatch.setattr("galfig.images.stretch.BLOCK", 1 << 20)
    np.testing.assert_array_equal(pixels, decode_fits(as_fits(values), Stretch((low, high))))


@pytest.mark.parametrize("n", [1, 2, 3, 400, 401, 10_000])
@pytest.mark.parametrize("dtype", ["u1", ">f4", "f8"])
def test_percentiles_are_those_of_numpy(n, dtype):
    """To the last bit, in double precision, whatever the type of the values."""
    values = np.random.default_rng(n).normal(100, 30, n).astype(dtype)
    expected = np.percentile(values.astype(np.float64), PERCENTILES)
    assert list(_find_percentiles(values)) == expected.tolist()


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
def test_tiles_are_checked_and_read(kind):
    """Tiles that do not divide the image, too."""
    values = np.arange(20 * 20, dtype=np.int16).reshape(20, 20)
    plain = decode_fits(as_fits(values), Stretch((0, 400)))
    for tile in ((8, 8), (20, 20), (5, 20)):
        np.testing.assert_array_equal(
            decode_fits(compress(kind, values, tile), Stretch((0, 400))), plain
        )


def test_tile_that_inflates_is_refused():
    """A tile of 256 bytes that inflates to a gigabyte, as one stream or as many."""
    data = compress("GZIP_1", tile=(16, 16))
    whole = gzip.compress(bytes(1 << 24))
    for bomb in (whole, gzip.compress(bytes(400)) * 6000):
        at = data.find(b"\x1f\x8b")
        body = put(data[: at - 8], b"PCOUNT", len(bomb)) + struct.pack(">ii", len(bomb), 0) + bomb
        with pytest.raises(ValueError, match="compressed tile 1 has another size than stated"):
            decode_fits(body + bytes(-len(body) % 2880))


@pytest.mark.parametrize("sides", [(9, 9), (-8, -8), (0, 0), (1 << 15, 1 << 15)])
def test_stream_of_another_size_is_refused(sides):
    """HCOMPRESS would write beyond its buffer, and take the process along."""
    data = compress("HCOMPRESS_1", np.arange(256, dtype=np.int16).reshape(16, 16) * 7 % 100)
    at = data.find(b"\xdd\x99")
    with pytest.raises(ValueError, match="compressed tile 1 has another size than stated"):
        decode_fits(data[: at + 2] + struct.pack(">ii", *sides) + data[at + 10 :])


def test_compression_of_masks_is_refused():
    """PLIO is not for images."""
    with pytest.raises(ValueError, match="tiles compressed by PLIO_1, expected RICE or GZIP"):
        decode_fits(compress("PLIO_1"))


def put(data, key, value):
    """Replace the value of a card."""
    at = data.find(b"%-8s=" % key)
    return data[:at] + (b"%-8s= %20d" % (key, value)).ljust(80) + data[at + 80 :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (put(put(as_fits(np.zeros((8, 8))), b"NAXIS1", 30_000), b"NAXIS2", 30_000), "900000000 v"),
        (put(put(compress("RICE_1"), b"ZNAXIS1", 30_000), b"ZNAXIS2", 30_000), "900000000 v"),
        (
            put(put(compress("GZIP_1"), b"ZNAXIS1", 8000), b"ZNAXIS2", 8000),
            "4 compressed tiles, expected 1000000",
        ),
        (b"SIMPLE  = T".ljust(80) + b"COMMENT".ljust(80) * 100_000, "a header without an end"),
    ],
    ids=["axes", "axes of tiles", "tiles that are not there", "endless header"],
)
def test_sizes_that_only_the_header_states(data, reason):
    """Small files that claim to be large are refused before any memory is taken."""
    with pytest.raises(ValueError, match=reason):
        decode_fits(data)


def test_file_of_very_many_tables_is_refused(monkeypatch):
    """An image behind very many empty extensions is not searched for."""
    stream = io.BytesIO()
    fits.BinTableHDU().writeto(stream)
    empty = stream.getvalue()[-2880:]
    image = as_fits(np.zeros((8, 8)), fits.ImageHDU)[2880:]
    assert decode_fits(as_fits(None) + empty * 20 + image).shape == (8, 8)
    monkeypatch.setattr("galfig.images.decoders.MAX_READS", 10)
    with pytest.raises(ValueError, match="a FITS file without an image"):
        decode_fits(as_fits(None) + empty * 20 + image)


def test_gzip_beyond_the_limit_is_refused(monkeypatch):
    """What is small when packed is measured unpacked, and a truncated stream is told from it."""
    packed = gzip.compress(as_fits(np.zeros((100, 100))))
    monkeypatch.setattr("galfig.images.fits.MAX_SMALL", 1000)
    assert decode_fits(packed, Stretch((0, 1))).shape == (100, 100)
    with pytest.raises(ValueError, match="gzip data that is truncated"):
        decode_fits(packed[:-20])
    monkeypatch.setattr("galfig.images.fits.MAX_BYTES", 10_000)
    with pytest.raises(ValueError, match=r"more than 0\.0 GB when unpacked"):
        decode_fits(packed)


def write_hdus(*hdus):
    stream = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(stream)
    return stream.getvalue()


RANGE = Stretch((0.0, 255.0))


def plane(value, size=8):
    """A plane that is told by its last pixel."""
    values = np.zeros((size, size), np.float32)
    values[0, 0] = value
    return values


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 8, 8), (8, 8, 1), (1, 8, 1, 8)])
def test_axes_of_length_one_do_not_count(shape):
    """Radio images have axes of frequency and Stokes."""
    expected = decode_fits(as_fits(plane(200)), RANGE)
    np.testing.assert_array_equal(decode_fits(as_fits(plane(200).reshape(shape)), RANGE), expected)


@pytest.mark.parametrize("primary", [np.zeros((0, 0)), np.zeros(5), None])
def test_a_primary_without_an_image_is_passed_over(primary):
    """It is empty, has one axis, or none."""
    data = write_hdus(fits.PrimaryHDU(primary), fits.ImageHDU(plane(200)))
    np.testing.assert_array_equal(decode_fits(data, RANGE), decode_fits(as_fits(plane(200)), RANGE))


def test_weights_are_no_image_by_default():
    """Whatever stands first; a file of weights alone is what it is."""
    images = [fits.ImageHDU(np.full((8, 8), 9.0), name="WHT"), fits.ImageHDU(plane(200), name="A")]
    data = write_hdus(fits.PrimaryHDU(), *images)
    assert decode_fits(data, RANGE)[-1, 0] > 200
    assert measure_fits(data) == (8, 8, ("WHT",))
    assert decode_fits(write_hdus(fits.PrimaryHDU(), images[0]), RANGE).min() > 0


@pytest.mark.parametrize("keys", [("R", "G", "B"), (3, 2, 1), ("r", 2, "B")])
def test_extensions_are_channels_in_the_order_given(keys):
    """By name, in any case, or number; each holds one plane."""
    images = [fits.ImageHDU(plane(v), name=n) for n, v in (("B", 50), ("G", 100), ("R", 250))]
    data = write_hdus(fits.PrimaryHDU(), *images)
    pixels = decode_fits(data, RANGE, Choice(extensions=keys))
    assert pixels[-1, 0, 0] > pixels[-1, 0, 1] > pixels[-1, 0, 2] > 0
    assert measure_fits(data, Choice(extensions=keys[:1]))[2] == ("B", "G")
    one = decode_fits(data, RANGE, Choice(extensions=keys[:1]))
    assert one.shape == (8, 8)


def test_planes_are_channels_in_the_order_given():
    """Four bands, of which some are used; planes behind or before the others."""
    cube = np.stack([plane(value) for value in (40, 80, 120, 250)])
    limits = Stretch((0.0, 250.0))
    for values in (cube, np.moveaxis(np.pad(cube, ((0, 0), (0, 20), (0, 20))), 0, -1)):
        pixels = decode_fits(as_fits(values), limits, Choice(planes=(3, 1, 0)))
        assert pixels.shape[2] == 3
        assert pixels[-1, 0, 0] > pixels[-1, 0, 1] > pixels[-1, 0, 2] > 0
    four = decode_fits(as_fits(cube), limits, Choice(planes=(0, 1, 2, 3)))
    assert four[-1, 0].tolist() == sorted(four[-1, 0].tolist())
    np.testing.assert_array_equal(
        decode_fits(as_fits(cube), limits, Choice(planes=(2,))),
        decode_fits(as_fits(cube[2]), limits),
    )


def test_a_cube_of_colours_can_be_turned():
    """Stored red first, instead of blue first."""
    cube = np.stack([plane(value) for value in (250, 100, 50)])
    by_default = decode_fits(as_fits(cube), RANGE)
    chosen = decode_fits(as_fits(cube), RANGE, Choice(planes=(0, 1, 2)))
    np.testing.assert_array_equal(chosen, by_default[..., ::-1])
    assert chosen[-1, 0].argmax() == 0


def test_a_file_per_band():
    """Bands of one size become the channels; a cube among them has no place."""
    files = [as_fits(plane(value)) for value in (250, 100, 50, 20)]
    pixels = decode_fits(files, RANGE)
    assert pixels.shape == (8, 8, 4)
    assert pixels[-1, 0].tolist() == sorted(pixels[-1, 0].tolist(), reverse=True)
    with pytest.raises(ValueError, match="bands of 8 × 8 and 9 × 9 pixels, expected one size"):
        decode_fits([files[0], as_fits(plane(1, 9))], RANGE)
    with pytest.raises(ValueError, match="a cube in a file of one band"):
        decode_fits([files[0], as_fits(np.zeros((3, 8, 8)))], RANGE)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(extensions=("SCI",)), "no extension 'SCI', expected one of: 0 PRIMARY, 1 B"),
        (Choice(extensions=(7,)), "no extension 7"),
        (Choice(extensions=(0,)), "extension 0 holds no image"),
        (Choice(planes=(1,)), "expected plane 1, counted from 0"),
        (Choice(extensions=("B", "CUBE")), "expected one plane in each extension"),
    ],
)
def test_what_is_asked_for_and_not_there(choice, words):
    """The message lists what there is."""
    images = [fits.ImageHDU(plane(9), name="B"), fits.ImageHDU(np.zeros((3, 8, 8)), name="CUBE")]
    with pytest.raises(ValueError, match=words):
        decode_fits(write_hdus(fits.PrimaryHDU(), *images), RANGE, choice)


@pytest.mark.parametrize(("planes", "order"), [(None, [2, 1, 0]), ((3, 1, 0), [3, 1, 0])])
def test_cube_becomes_the_picture_of_astropy(planes, order):
    """Three planes from blue to red, and those that [catalog] planes chooses, red first."""
    rng = np.random.default_rng(5)
    cube = rng.gamma(1.0, 0.4, (3 if planes is None else 4, 12, 10)).astype(np.float32)
    stretch = Stretch(kind="lupton", lupton=Lupton((0.0, 0.0, 0.0), 0.5, 10.0))
    pixels = decode_fits(as_fits(cube), stretch, Choice(planes=planes))
    expected = make_lupton_rgb(*cube[order].astype(np.float64), stretch=0.5, Q=10.0)
    np.testing.assert_array_equal(pixels, expected[::-1])
