"""Planes: whether a FITS answer holds the bands, the size and the field that were asked for."""

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from galfig.images.decoders import MeteredBytes, UnusableError, guard_decoder
from galfig.images.fits import END_CARD, FITS_MAGIC, MAX_HEADER
from galfig.images.raster import measure_raster
from galfig.runtime.messages import one_line
from galfig.survey.checks import check_type
from galfig.survey.service import Answer, RefusedAnswerError, Target

# Media types of FITS.
TYPES = ("image/fits", "application/fits", "application/octet-stream")
# How far a galaxy may lie from the middle of its cutout [pixel]: services round it to a whole one.
MAX_OFFSET = 1.0
# By how much the pixel scale may be another, and what a turned image may have beside it.
TOLERANCE = 1e-3
# Axes of a header, and the degree of the polynomials of distortion that the SIP convention permits.
MAX_AXES, MAX_ORDER = 9, 9
_ORDER = re.compile(r"(A|B|AP|BP)_ORDER")


class Field(NamedTuple):
    """What was asked for, besides the place.

    Attributes
    ----------
    pixel_scale : float
        [arcsec/pixel]
    size : int
        Side of the cutout [pixel].
    bands : tuple of str
        Names of the bands, in the order of the planes.
    origin : str
        The layer or HiPS, for messages.
    """

    pixel_scale: float
    size: int
    bands: tuple[str, ...]
    origin: str


def accept_fits(answer: Answer, field: Field, band_card: str | None = None) -> bytes:
    """Check that an answer is FITS with the bands, size and field that were asked for.

    Parameters
    ----------
    answer : Answer
        The answer.
    field : Field
        What was asked for.
    band_card : str, optional
        Card of the header that names the bands, as single letters.

    Returns
    -------
    bytes
        The file, as it came.

    Raises
    ------
    RefusedAnswerError
        If it is something else; the same may come again only where it is damaged.
    """
    check_type(answer, *TYPES)
    try:
        check_planes(answer.data, field, band_card)
    except UnusableError as exc:
        raise RefusedAnswerError(one_line(exc), is_final=True) from exc
    except ValueError as exc:
        raise RefusedAnswerError(one_line(exc)) from exc
    return answer.data


def check_planes(data: bytes, field: Field, band_card: str | None = None) -> None:
    """Check that a FITS answer is what was asked for.

    Parameters
    ----------
    data : bytes
        The answer.
    field : Field
        What was asked for.
    band_card : str, optional
        Card of the header that names the bands, as single letters.

    Raises
    ------
    UnusableError
        If it has another size, other bands, another pixel scale or other directions, or if a band
        has no data at the galaxy.
    ValueError
        If it is no FITS image, or is damaged.
    """
    _check_start(data)
    with guard_decoder(), _open(data) as hdus:
        values = _read_first(hdus[0], len(data), field)
        _check_bands(hdus[0].header, field, band_card)
        _check_directions(_read_wcs(hdus[0].header), field)
    for name, plane in zip(field.bands, values, strict=True):
        if not has_data(plane):
            raise UnusableError(
                f"band {name} holds no data at the galaxy: outside {field.origin}, or not observed "
                "in this band"
            )


def check_place(target: Target, data: bytes, size: int) -> None:
    """Check that a galaxy lies in the middle of a FITS answer, by its header.

    Parameters
    ----------
    target : Target
        The galaxy.
    data : bytes
        The answer.
    size : int
        Side of the cutout [pixel].

    Raises
    ------
    RefusedAnswerError
        If it lies elsewhere.
    """
    try:
        _check_start(data)
        with guard_decoder(), _open(data) as hdus:
            wcs = _read_wcs(hdus[0].header)
            place = np.array(wcs.all_world2pix(target.ra, target.dec, 0), dtype=np.float64).ravel()
    except ValueError as exc:
        raise RefusedAnswerError(one_line(exc)) from exc
    offset = place - (size - 1) / 2
    if not np.all(np.abs(offset) <= MAX_OFFSET):
        raise RefusedAnswerError(
            f"the galaxy lies {offset[0]:.4g}, {offset[1]:.4g} pixels from the middle, expected it "
            f"within {MAX_OFFSET:g}",
            is_final=True,
        )


def has_data(plane: NDArray[Any]) -> bool:
    """Return whether the central half of a band (H, W) holds any value but zero and NaN."""
    height, width = plane.shape
    centre = plane[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return bool(np.any(np.isfinite(centre) & (centre != 0)))


def _refuse_other(data: bytes) -> None:
    """Raise ValueError that says what an answer is that is no FITS."""
    try:
        measure_raster(data)
    except ValueError as exc:
        raise ValueError(str(exc).replace("expected an image;", "expected FITS;")) from exc
    raise ValueError("a picture, expected FITS")


def _open(data: bytes) -> Any:
    """Open bytes as FITS."""
    from astropy.io import fits

    return fits.open(MeteredBytes(data, 1 << 16), disable_image_compression=True)


def _check_start(data: bytes) -> None:
    """Raise ValueError unless bytes begin with a header of FITS."""
    if not data.startswith(FITS_MAGIC):
        _refuse_other(data)
    if END_CARD not in data[:MAX_HEADER]:
        raise ValueError("a FITS header without an end")


def _read_first(hdu: Any, n_bytes: int, field: Field) -> NDArray[Any]:
    """Read the first image of a file of some bytes, as planes (B, H, W)."""
    shape = (len(field.bands), field.size, field.size)
    found = hdu.shape if len(hdu.shape) == 3 else (1, *hdu.shape)
    if found != shape:
        sides = " × ".join(map(str, reversed(hdu.shape))) or "no"
        wanted = " × ".join(map(str, reversed(shape if shape[0] > 1 else shape[1:])))
        raise UnusableError(f"an image of {sides} values, expected {wanted}")
    if n_bytes < hdu.fileinfo()["datLoc"] + hdu.size:
        raise ValueError("FITS that is cut short")
    return np.asarray(hdu.data, dtype=np.float64).reshape(shape)


def _check_bands(header: Any, field: Field, band_card: str | None) -> None:
    # The viewer answers with all of its bands where it does not know one.
    if band_card is None:
        return
    found = str(header.get(band_card, ""))
    if found != "".join(field.bands):
        raise UnusableError(f"bands {found!r}, expected {''.join(field.bands)!r}")


def _read_wcs(header: Any) -> Any:
    """Return where the pixels of an image lie on the sky."""
    from astropy.wcs import WCS

    # Each of these makes astropy fill the memory, or compute for hours.
    n_axes = max((header.get(key) for key in header if key.startswith("WCSAXES")), default=0)
    orders = [header[key] for key in header if _ORDER.fullmatch(key)]
    is_table = any(str(header.get(f"CTYPE{axis}", "")).endswith("-TAB") for axis in (1, 2))
    if n_axes > MAX_AXES or any(order > MAX_ORDER for order in orders) or is_table:
        raise UnusableError("a header with unusual positions on the sky, expected plain ones")
    wcs = WCS(header, naxis=2)
    if not wcs.has_celestial:
        raise UnusableError("a header without positions on the sky")
    return wcs


def _check_directions(wcs: Any, field: Field) -> None:
    """Check the pixel scale, and that north is up and east to the left."""
    matrix = wcs.pixel_scale_matrix * 3600
    turned = np.abs(matrix - np.diag([-field.pixel_scale, field.pixel_scale]))
    if turned.max() > TOLERANCE * field.pixel_scale:
        east, north = -matrix[0, 0], matrix[1, 1]
        raise UnusableError(
            f"pixels of {east:.4g} × {north:.4g} arcsec, or turned, expected "
            f"{field.pixel_scale:.4g} arcsec with north up and east to the left"
        )
