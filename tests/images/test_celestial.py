"""Celestial coordinates: what a FITS header says of scale, north and east of a cutout."""

import gzip
import io
import math
import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galfig.images.celestial import MAX_ORDER, UNKNOWN, find_center, read_view
from galfig.images.cutouts import Decoding, crop_or_pad, read_cutout
from galfig.images.fits import Choice, find_axes
from galfig.images.sources import BandFiles

HEIGHT, WIDTH, SIZE = 80, 101, 64


def make_header(
    *, turn=0.0, is_mirrored=False, scale=0.4, system="FK5", center=(150.0, 61.0), shift=0.0
):
    """Make the header of an image that is turned counterclockwise, and mirrored or not.

    The reference pixel is ``shift`` pixels to the right of the image.
    """
    is_galactic = system == "galactic"
    t, s = math.radians(turn), scale / 3600
    matrix = np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
    matrix = np.diag([s if is_mirrored else -s, s]) @ matrix.T
    cards = {
        "CTYPE1": "GLON-TAN" if is_galactic else "RA---TAN",
        "CTYPE2": "GLAT-TAN" if is_galactic else "DEC--TAN",
        **{f"CRVAL{n}": value for n, value in enumerate(center, 1)},
        "CRPIX1": 51.0 + shift,
        "CRPIX2": 40.5,
        **{f"CD{i + 1}_{j + 1}": matrix[i, j] for i in range(2) for j in range(2)},
    }
    if not is_galactic:
        cards |= {"RADESYS": system, "EQUINOX": 1950.0 if system == "FK4" else 2000.0}
    return fits.Header([("NAXIS", 2), ("NAXIS1", WIDTH), ("NAXIS2", HEIGHT), *cards.items()])


def point(header, center):
    """Find the angles of north and east as astropy has them: by points a little beside a center."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = WCS(header)
        place = wcs.pixel_to_world(*center).icrs
        found = []
        for angle in (0, 90):
            x, y = wcs.world_to_pixel(place.directional_offset_by(angle * u.deg, 0.1 * u.arcsec))
            found.append(math.degrees(math.atan2(-(x - center[0]), y - center[1])))
    return found


def differ(one, two):
    """Return the largest difference of angles [deg]."""
    return float(np.abs((np.subtract(one, two) + 180) % 360 - 180).max())


@pytest.mark.parametrize("system", ["ICRS", "FK5", "FK4", "galactic"])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_north_and_east_are_where_astropy_has_them(system, is_mirrored):
    """By points that SkyCoord offsets, in any system; far from the reference, too."""
    center = find_center(HEIGHT, WIDTH, SIZE)
    for turn in (0, 37, 90, 143, -100, 180):
        for shift in (0, 3000):
            header = make_header(turn=turn, is_mirrored=is_mirrored, system=system, shift=shift)
            view = read_view(header, (1, 2), center)
            assert differ(view[1:3], point(header, center)) < 0.01
            assert view.pixel_scale == pytest.approx(0.4, rel=1e-3)
            assert not view.fault


@pytest.mark.parametrize(("turn", "is_mirrored"), [(0, False), (30, False), (0, True), (30, True)])
def test_a_turned_image_has_its_arrows_turned(turn, is_mirrored):
    """Counterclockwise with the image; east is to the right where it is mirrored."""
    header = make_header(turn=turn, is_mirrored=is_mirrored, center=(150.0, 0.0))
    view = read_view(header, (1, 2), (50, 39.5))
    east = turn - 90 if is_mirrored else turn + 90
    assert differ(view[1:3], (turn, east)) < 0.01


def test_at_a_pole_and_across_zero_hours():
    """North changes quickly there, and right ascension jumps."""
    for center in ((10.0, 89.99), (0.0, -89.999), (359.99999, 20.0)):
        header = make_header(center=center, shift=40)
        place = find_center(HEIGHT, WIDTH, SIZE)
        view = read_view(header, (1, 2), place)
        assert differ(view[1:3], point(header, place)) < 0.2
        assert view.pixel_scale == pytest.approx(0.4, rel=1e-3)


@pytest.mark.parametrize("style", ["PC", "CDELT", "CROTA", "old PC"])
def test_every_way_to_write_a_matrix_is_read(style):
    """Of the standard, and of the years before it."""
    header, t = make_header(turn=30), math.radians(30)
    for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        del header[key]
    header["CDELT1"], header["CDELT2"] = -0.4 / 3600, 0.4 / 3600
    # A turn of the image counterclockwise is one of the axes.
    pairs = {(1, 1): math.cos(t), (1, 2): math.sin(t), (2, 1): -math.sin(t), (2, 2): math.cos(t)}
    turn = 0 if style == "CDELT" else 30
    if style == "CROTA":
        header["CROTA2"] = 30.0
    elif style != "CDELT":
        for (i, j), value in pairs.items():
            header[f"PC{i}_{j}" if style == "PC" else f"PC{i:03d}{j:03d}"] = value
    view = read_view(header, (1, 2), (50, 39.5))
    assert differ(view[1:3], (turn, turn + 90)) < 0.01
    assert differ(view[1:3], point(header, (50, 39.5))) < 0.01
    assert view.pixel_scale == pytest.approx(0.4, rel=1e-6)


@pytest.mark.parametrize("projection", ["TAN", "TPV", "TAN-SIP"])
def test_the_polynomial_of_scamp_is_read_whatever_its_name(projection):
    """MegaPipe and others have TPV under the name of TAN; beside SIP it is the same again."""
    header = make_header(turn=30)
    header["CTYPE1"], header["CTYPE2"] = f"RA---{projection}", f"DEC--{projection}"
    for axis, turn in ((1, 0.01), (2, -0.01)):
        for number, value in ((0, 0.0), (1, 1.02), (2, turn), (4, 1e-3), (7, 1e-3)):
            header[f"PV{axis}_{number}"] = value
    if projection == "TAN-SIP":
        header["A_ORDER"] = header["B_ORDER"] = 2
        header["A_2_0"] = 1e-4
    center = find_center(HEIGHT, WIDTH, SIZE)
    view = read_view(header, (1, 2), center)
    assert not view.fault
    assert differ(view[1:3], point(header, center)) < 0.01
    scale = 0.4 if projection == "TAN-SIP" else 0.4 * math.hypot(1.02, 0.01)
    assert view.pixel_scale == pytest.approx(scale, rel=1e-3)


def test_distortion_counts_at_the_centre():
    """SIP makes the pixels of an edge larger than those of the reference."""
    header = make_header(shift=-1000, center=(150.0, 0.0))
    plain = read_view(header, (1, 2), (50, 40)).pixel_scale
    header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 5e-6, "B_1_1": 5e-6})
    # Without the suffix, the image is one whose distortion was removed.
    assert read_view(header, (1, 2), (50, 40)).pixel_scale == plain
    header.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"})
    x, y = np.array([50.0, 49.5, 50.5, 50.0, 50.0]), np.array([40.0, 40.0, 40.0, 39.5, 40.5])
    sky = WCS(header).pixel_to_world(x, y)
    sides = sky[1].separation(sky[2]).arcsec, sky[3].separation(sky[4]).arcsec
    view = read_view(header, (1, 2), (50, 40))
    assert view.pixel_scale == pytest.approx(math.sqrt(math.prod(sides)), rel=2e-5)
    assert view.pixel_scale > 1.005 * plain


@pytest.mark.parametrize(
    "changes",
    [
        {"CTYPE1": None, "CTYPE2": None},
        {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"},
        {"CTYPE1": "RA---TAN", "CTYPE2": "FREQ"},
        {"CTYPE1": "TLON-TAN", "CTYPE2": "TLAT-TAN"},
    ],
)
def test_a_header_without_the_sky_says_nothing(changes):
    """Which is no fault of it."""
    header = make_header()
    for key, value in changes.items():
        header[key] = value
    assert str(read_view(header, (1, 2), (50, 40))) == str(UNKNOWN)


@pytest.mark.parametrize(
    "changes",
    [
        {"CD1_1": 0.0, "CD1_2": 0.0},
        {"CD1_1": 1e-4, "CD1_2": 1e-4, "CD2_1": 1e-4, "CD2_2": 1e-4},
        {"CRVAL2": 1e300},
        {"CD1_1": 60.0, "CD2_2": 60.0},
        {"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"},
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--SIN"},
        {"CTYPE1": "RA", "CTYPE2": "DEC"},
        {"CTYPE1": "RA---TAB", "CTYPE2": "DEC--TAB"},
        {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 1_000_000, "B_ORDER": 1},
        {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": MAX_ORDER + 1},
        {"CUNIT1": "kg", "CUNIT2": "kg"},
        {"RADESYS": "GAPPT"},
    ],
)
def test_coordinates_without_sense_are_a_fault(changes):
    """The image is used all the same; how it lies on the sky is unknown."""
    header = make_header()
    header.update(changes)
    view = read_view(header, (1, 2), (50, 40))
    assert view.fault == "unusable"
    assert np.isnan(view[:3]).all()


def test_a_pixel_is_no_degree_where_the_header_does_not_say_so():
    """The standard's default of CDELT is meant by nobody."""
    header = make_header()
    for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        del header[key]
    assert read_view(header, (1, 2), (50, 40)).fault == "unusable"


@pytest.mark.parametrize(("ratio", "is_square"), [(1.005, True), (1.02, False)])
def test_pixels_that_are_not_square_have_no_scale(ratio, is_square):
    """Their arrows still point the right way."""
    header = make_header(center=(150.0, 0.0))
    header["CD1_1"] *= ratio
    view = read_view(header, (1, 2), (50, 39.5))
    assert math.isfinite(view.pixel_scale) == is_square
    assert view.fault == ("" if is_square else "oblong")
    assert (view.north_angle, view.east_angle) == (0, 90)


CARDS = st.dictionaries(
    st.sampled_from(
        [
            *(*make_header(), "CUNIT1", "LONPOLE", "PV1_1", "PV2_3", "CDELT1", "CROTA2"),
            *("A_ORDER", "A_2_0", "PC001001", "WCSAXES", "EPOCH"),
        ]
    ),
    st.one_of(
        st.sampled_from(
            ["RA---TAN-SIP", "DEC--TPV", "GLON-CAR", "", "RA---ZPN", "deg", "FK4", 1e9]
        ),
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(-(10**6), 10**6),
        st.booleans(),
    ),
    max_size=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CARDS)
def test_no_header_stops_a_build_or_warns(changes):
    """Whatever it says: it is known, unknown or a fault. Warnings are errors here."""
    header = make_header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header.update({key: value for key, value in changes.items() if not key.startswith("NAXIS")})
    view = read_view(header, (1, 2), (50.0, 40.0))
    assert math.isnan(view.pixel_scale) or 0 < view.pixel_scale < 36_000
    assert all(math.isnan(angle) or abs(angle) <= 180 for angle in view[1:3])


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((80, 101), (1, 2)),
        ((3, 80, 101), (1, 2)),
        ((80, 101, 3), (2, 3)),
        ((1, 1, 80, 101), (1, 2)),
        ((80, 1, 101), (1, 3)),
    ],
)
def test_axes_of_an_image_are_those_that_are_drawn(shape, axes):
    """Whatever else its file has: planes, frequency, Stokes."""
    assert find_axes(shape) == axes


@pytest.mark.parametrize(("height", "width", "size"), [(80, 101, 64), (80, 101, 33), (9, 20, 32)])
def test_the_centre_is_that_of_the_cutout(height, width, size):
    """Of the same pixels that are cropped or padded, with rows from the top."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x, height - 1 - y, np.ones_like(x)], axis=-1).astype(np.uint8)
    cutout = crop_or_pad(image, size)
    rows, columns = np.nonzero(cutout[..., 2])
    # A pixel of the image in the cutout, and how far the centre of the cutout is from it.
    row, column = rows[0], columns[0]
    at_x, at_y, _ = cutout[row, column].astype(float)
    middle = (size - 1) / 2
    assert find_center(height, width, size) == (at_x + middle - column, at_y - (middle - row))


def draw_blob(height=HEIGHT, width=WIDTH):
    """Draw a galaxy on a noisy sky, float32."""
    y, x = np.mgrid[:height, :width]
    light = np.exp(-0.5 * ((x - width / 2) ** 2 + (y - height / 2) ** 2) / 36)
    return (light + np.random.default_rng(0).normal(0, 0.02, (height, width))).astype(np.float32)


def note_view(path, decoding=None, size=SIZE):
    """Read a cutout; return how it lies on the sky."""
    found = {}
    read_cutout(path, size, decoding or Decoding(), on_view=found.__setitem__)
    return found[path]


def test_every_kind_of_file_says_the_same(tmp_path):
    """Plain, by gzip or fpack, of one band each, in an extension, or a plane of a cube."""
    header = make_header(turn=25, is_mirrored=True)
    expected = read_view(header, (1, 2), find_center(HEIGHT, WIDTH, SIZE))
    cards, data = header.copy(), draw_blob()
    fits.writeto(tmp_path / "a.fits", data, cards)
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes()))
    packed = fits.CompImageHDU(data, cards, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "a.fits.fz")
    other = fits.ImageHDU(data, make_header(turn=200), name="OTHER")
    ours = fits.ImageHDU(data, cards, name="SCI")
    fits.HDUList([fits.PrimaryHDU(), other, ours]).writeto(tmp_path / "b.fits")
    fits.writeto(tmp_path / "cube.fits", np.stack([data] * 5), cards)
    bands = BandFiles((tmp_path / "a.fits",) * 3)
    chosen = Decoding(choice=Choice(extensions=("SCI",)))
    for view in (
        *(note_view(tmp_path / name) for name in ("a.fits", "a.fits.gz", "a.fits.fz")),
        note_view(bands),
        note_view(tmp_path / "b.fits", chosen),
        note_view(tmp_path / "cube.fits", Decoding(choice=Choice(planes=(4, 2, 0)))),
    ):
        assert view == expected
    assert differ(note_view(tmp_path / "b.fits")[1:3], (200, 290)) < 1


def test_planes_that_come_last_leave_the_sky_to_the_others(tmp_path):
    """The axes of the sky are then the second and the third."""
    header = fits.Header()
    for key, value in make_header(turn=25).items():
        if key[:5] in ("CTYPE", "CRVAL", "CRPIX"):
            header[f"{key[:5]}{int(key[5]) + 1}"] = value
        elif key.startswith("CD"):
            header[f"CD{int(key[2]) + 1}_{int(key[4]) + 1}"] = value
    fits.writeto(tmp_path / "a.fits", np.stack([draw_blob()] * 3, axis=-1), header)
    view = note_view(tmp_path / "a.fits", Decoding(choice=Choice(planes=(0, 1, 2))))
    assert differ(view[1:3], (25, 115)) < 0.2
    assert view.pixel_scale == pytest.approx(0.4, rel=1e-3)


def test_a_whole_image_that_is_scaled_has_larger_pixels(tmp_path):
    """Of the largest square in it, whose side becomes that of the cutout."""
    fits.writeto(tmp_path / "a.fits", draw_blob(), make_header(turn=10))
    view = note_view(tmp_path / "a.fits", Decoding(is_whole=True), 32)
    plain = note_view(tmp_path / "a.fits", size=HEIGHT)
    assert view.zoom == HEIGHT / 32
    assert view.pixel_scale == plain.pixel_scale * HEIGHT / 32
    assert view[1:3] == plain[1:3]


def test_other_formats_and_broken_headers_are_read_as_before(tmp_path):
    """A header that makes no sense rejects no image, and JPEG has none."""
    from PIL import Image

    header = make_header()
    header["CD1_1"] = 0.0
    fits.writeto(tmp_path / "a.fits", draw_blob(), header)
    assert note_view(tmp_path / "a.fits").fault == "unusable"
    raw = (tmp_path / "a.fits").read_bytes()
    # A card that is no card.
    (tmp_path / "b.fits").write_bytes(raw.replace(b"CRVAL1  =", b"CRVAL1  = ' x"[:9], 1))
    shade = (255 * draw_blob().clip(0, 1)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(shade).save(stream, "JPEG")
    (tmp_path / "c.jpg").write_bytes(stream.getvalue())
    assert str(note_view(tmp_path / "c.jpg")) == str(UNKNOWN)
    assert note_view(tmp_path / "c.jpg", Decoding(is_whole=True), 40).zoom == 2


def test_real_headers_agree_with_astropy(real_data):
    """Radio galaxies of FIRST, as SkyView gives them."""
    for path in sorted((real_data("mirabest-fits") / "images").iterdir())[:5]:
        header = fits.getheader(path)
        view = note_view(path, size=128)
        kinds = ("CTYPE", "CRVAL", "CRPIX", "CDELT", "RADESYS", "EQUINOX")
        plain = fits.Header([(key, header[key]) for key in header if key.startswith(kinds)])
        center = find_center(header["NAXIS2"], header["NAXIS1"], 128)
        assert differ(view[1:3], point(plain, center)) < 0.02
        assert view.pixel_scale == pytest.approx(1.8, rel=1e-3)
