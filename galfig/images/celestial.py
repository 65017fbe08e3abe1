"""Celestial coordinates: the pixel scale of an image and where north is, by its FITS header."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from galfig.images.decoders import guard_decoder

# Coordinates that are understood, and projections of FITS (Calabretta & Greisen 2002) by which
# they may be given; others need tables that lie elsewhere in the file.
_PAIRS = ({"RA", "DEC"}, {"GLON", "GLAT"})
_PROJECTIONS = {
    *("AZP", "SZP", "TAN", "TPV", "STG", "SIN", "ARC", "ZPN", "ZEA", "AIR", "CYP", "CEA", "CAR"),
    *("MER", "SFL", "PAR", "MOL", "AIT", "COP", "COE", "COD", "COO", "BON", "PCO", "TSC", "CSC"),
    *("QSC", "HPX", "XPH", "GLS", "NCP"),
}
# Keys of one axis, and those of both together.
_OF_AXIS = ("CTYPE", "CUNIT", "CRPIX", "CRVAL", "CDELT", "CROTA")
_OF_BOTH = ("LONPOLE", "LATPOLE", "RADESYS", "RADECSYS", "EQUINOX", "EPOCH")
# Parameters of a projection; and distortions, whose order decides how much memory they take.
_PARAMETER = re.compile(r"PV(\d)_([0-9]|[1-3][0-9])")
_DISTORTION = re.compile(r"[AB]_(ORDER|DMAX|[0-9]_[0-9])")
MAX_ORDER = 9
# The last parameter that TAN may have; the distortion of SCAMP has more.
MAX_PARAMETER = 4
# The difference between the two sides of a pixel, or between two scales, that is tolerated.
TOLERANCE = 0.01
# A larger pixel shows no galaxy [deg].
MAX_PIXEL = 10.0
# Digits to which the scale is rounded, so that cutouts of one service have the same, and decimals
# of angles. The last bits of a machine make no difference either.
_DIGITS, _DECIMALS = 5, 4


class View(NamedTuple):
    """How a cutout lies on the sky, at its centre.

    Attributes
    ----------
    pixel_scale : float
        Pixel scale of the cutout [arcsec/pixel]; NaN where unknown.
    north_angle, east_angle : float
        Directions of north and east of the equatorial system [deg], counterclockwise from up as the
        cutout is drawn, from -180 to 180; NaN where unknown.
    fault : {"", "unusable", "oblong"}
        Why the header says less than it seems to: its sky coordinates make no sense, or its pixels
        are not square.
    zoom : float
        Pixels of the image to a pixel of the cutout, along each axis; 1 unless the whole image is
        scaled to the cutout.
    """

    pixel_scale: float = math.nan
    north_angle: float = math.nan
    east_angle: float = math.nan
    fault: str = ""
    zoom: float = 1.0


UNKNOWN = View()


def read_view(
    header: Mapping[str, Any], axes: tuple[int, int], center: tuple[float, float]
) -> View:
    """Read from a FITS header how an image lies on the sky, in its own pixels.

    Parameters
    ----------
    header : mapping
        The header, which may be anybody's.
    axes : (int, int)
        The axes of FITS, counted from 1, that are drawn to the right and upwards.
    center : (float, float)
        Where it is asked, along these axes, with the first pixel at zero [pixel].

    Returns
    -------
    View
        `UNKNOWN` where the header has no celestial coordinates of these axes.

    Raises
    ------
    MemoryError, OSError, ImportError, RuntimeError
        If the machine is at fault; see `galfig.images.decoders.guard_decoder`.

    References
    ----------
    .. [1] Greisen & Calabretta 2002, A&A 395, 1061
    .. [2] Calabretta & Greisen 2002, A&A 395, 1077
    .. [3] Shupe et al. 2005, ADASS XIV, ASP Conf. Ser. 347, 491 (SIP)
    .. [4] Shupe et al. 2012, Proc. SPIE 8451, 84511M (SIP and the polynomials of SCAMP)
    """
    try:
        with guard_decoder():
            cards = _pick_cards(header, axes)
            return _measure(cards, center) if cards else UNKNOWN
    except ValueError:
        return View(fault="unusable")


def _pick_cards(header: Mapping[str, Any], axes: tuple[int, int]) -> dict[str, Any]:
    """Return the cards of two axes, renumbered; empty if the axes are not those of the sky.

    What is left out can neither ask for memory nor lead into other parts of the file.
    """
    types = [str(header.get(f"CTYPE{axis}", "")).strip().upper() for axis in axes]
    words = [re.split("-+", kind) for kind in types]
    if {one[0] for one in words} not in _PAIRS:
        return {}
    projections = {one[1] if len(one) > 1 else "" for one in words}
    if len(projections) > 1 or not projections <= _PROJECTIONS:
        raise ValueError("a projection that is not understood")
    cards = {key: header[key] for key in _OF_BOTH if key in header}
    for number, axis in enumerate(axes, 1):
        cards |= {f"{k}{number}": header[f"{k}{axis}"] for k in _OF_AXIS if f"{k}{axis}" in header}
        for column, other in enumerate(axes, 1):
            # The last is how matrices were written before the standard.
            names = [f"PC{axis}_{other}", f"CD{axis}_{other}", f"PC{axis:03d}{other:03d}"]
            found = [name for name in names if name in header]
            cards |= {f"{name[:2]}{number}_{column}": header[name] for name in found}
    if not any(key.startswith(("CDELT", "CD1_", "CD2_")) for key in cards):
        # By the standard, a pixel would be a degree.
        raise ValueError("coordinates without a scale")
    numbers = {str(axis): number for number, axis in enumerate(axes, 1)}
    for key in header:
        parameter = _PARAMETER.fullmatch(key)
        if parameter and parameter[1] in numbers:
            cards[f"PV{numbers[parameter[1]]}_{parameter[2]}"] = header[key]
    types = _name_distortion(cards, types)
    cards |= {f"CTYPE{number}": kind for number, kind in enumerate(types, 1)}
    if axes == (1, 2) and all(one[2:] == ["SIP"] for one in words):
        cards |= {key: header[key] for key in header if _DISTORTION.fullmatch(key)}
        if any(not 0 <= int(cards.get(f"{one}_ORDER", 0)) <= MAX_ORDER for one in "AB"):
            raise ValueError("a distortion of an order that is not supported")
    else:
        # The coefficients are those of the axes 1 and 2.
        plain = (kind.removesuffix("-SIP") for kind in types)
        cards |= {f"CTYPE{number}": kind for number, kind in enumerate(plain, 1)}
    return cards


def _name_distortion(cards: dict[str, Any], types: list[str]) -> list[str]:
    """Return the types of both axes, by the name that the distortion of SCAMP has now.

    SCAMP wrote its polynomial as parameters of TAN, which has none of these numbers, before there
    was TPV. Beside SIP it says the same again, and is removed.
    """
    found = [match for match in map(_PARAMETER.fullmatch, cards) if match]
    if any(int(match[2]) > MAX_PARAMETER for match in found):
        if all(kind.endswith("-TAN") for kind in types):
            return [kind.removesuffix("TAN") + "TPV" for kind in types]
        if all(kind.endswith("-TAN-SIP") for kind in types):
            for match in found:
                del cards[match[0]]
    return types


def _measure(cards: Mapping[str, Any], center: tuple[float, float]) -> View:
    """Return scale and directions at a position of an image, from the cards of two axes."""
    # The position, and half a pixel beyond it on either side along each axis.
    steps = np.array([(0.0, 0.0), (-0.5, 0.0), (0.5, 0.0), (0.0, -0.5), (0.0, 0.5)])
    lon, lat = _find_sky(cards, steps + center)
    if not np.isfinite([lon, lat]).all():
        raise ValueError("a position that is not on the sky")
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    east = np.array([-np.sin(lon[0]), np.cos(lon[0]), 0.0])
    north = np.cross(points[0], east)
    # How far to the east and to the north a pixel to the right and one upwards lead [rad].
    shifts = np.stack([points[2] - points[1], points[4] - points[3]], axis=-1)
    jacobian = np.stack([east @ shifts, north @ shifts])
    longest, shortest = np.linalg.svd(jacobian, compute_uv=False)
    arcsec = math.degrees(math.sqrt(longest * shortest)) * 3600
    if not (shortest > 1e-3 * longest and 0 < arcsec < 3600 * MAX_PIXEL):
        raise ValueError("coordinates that do not change from pixel to pixel")
    # The steps in pixels that lead to the east and to the north.
    (east_x, north_x), (east_y, north_y) = np.linalg.inv(jacobian)
    is_square = longest <= (1 + TOLERANCE) * shortest
    return View(
        float(f"{arcsec:.{_DIGITS}g}") if is_square else math.nan,
        _find_angle(north_x, north_y),
        _find_angle(east_x, east_y),
        "" if is_square else "oblong",
    )


def _find_sky(
    cards: Mapping[str, Any], points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return right ascension and declination (J2000) of points of an image [rad]."""
    from astropy.wcs import Wcsprm

    all_cards = {"NAXIS": 2, "WCSAXES": 2, **cards}
    found = Wcsprm(header=_write_cards(all_cards).encode("ascii"), relax=True)
    found.fix()
    found.set()
    system, equinox = str(found.radesys).strip().upper(), float(found.equinox)
    is_usual = found.lngtyp.strip() == "RA" and (
        system in ("", "ICRS", "FK5") and (math.isnan(equinox) or equinox == 2000)
    )
    if is_usual and "A_ORDER" not in cards and "B_ORDER" not in cards:
        # A twentieth of the time of what follows.
        world = found.p2s(points, 0)["world"]
        return np.radians(world[:, found.lng]), np.radians(world[:, found.lat])
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    wcs = WCS(Header(all_cards))
    world = wcs.all_pix2world(points, 0)
    lon, lat = world[:, wcs.wcs.lng], world[:, wcs.wcs.lat]
    if is_usual:
        return np.radians(lon), np.radians(lat)
    # This takes half a second to import.
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    place = SkyCoord(lon, lat, unit="deg", frame=wcs_to_celestial_frame(wcs)).icrs
    return place.ra.rad, place.dec.rad


def _write_cards(cards: Mapping[str, Any]) -> str:
    """Return cards as they stand in a file, which astropy takes much longer to write."""
    lines = []
    for key, value in cards.items():
        if isinstance(value, str):
            text = f"'{value.replace(chr(39), chr(39) * 2):8}'"
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{key} is neither a number nor text")
        else:
            text = f"{value if isinstance(value, int) else float(value)!r:>20}"
        lines.append(f"{key:8}= {text}"[:80].ljust(80))
    return "".join([*lines, "END".ljust(80)])


def _find_angle(right: float, up: float) -> float:
    """Return a direction [deg], counterclockwise from up."""
    angle = round(math.degrees(math.atan2(-right, up)), _DECIMALS)
    # Zero has no sign, and down has one name.
    return angle + 0.0 if angle > -180 else 180.0


def find_center(height: int, width: int, size: int) -> tuple[float, float]:
    """Return where the centre of a cutout lies in an image of FITS.

    Parameters
    ----------
    height, width : int
        Size of the image [pixels].
    size : int
        Side of the cutout [pixels], of which the part beyond the image is black.

    Returns
    -------
    (float, float)
        To the right and upwards, with the first pixel at zero [pixel].
    """
    # As `galfig.images.cutouts.crop_or_pad` has it: rows are counted from the top there.
    x, row = ((length - size) // 2 + (size - 1) / 2 for length in (width, height))
    return x, height - 1 - row
