"""FITS images: their fluxes stretched to eight bits, so that they are cutouts like any others."""

import io
import math
import warnings
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A cutout has fewer; what is larger is a mosaic, or made to fill the memory.
MAX_VALUES = 1 << 28
GZIP_MAGIC, FITS_MAGIC = b"\x1f\x8b", b"SIMPLE"
# Share of the range where the asinh stretch turns from linear to logarithmic.
SOFTENING = 0.1
# Of the pixels of an image, what is black and what is white where nothing else is said.
PERCENTILES = (0.25, 99.75)


def is_fits(data: bytes) -> bool:
    """Tell whether bytes are a FITS file, compressed by gzip or not."""
    if data.startswith(GZIP_MAGIC):
        try:
            data = zlib.decompressobj(wbits=31).decompress(data, len(FITS_MAGIC))
        except zlib.error:
            return False
    return data.startswith(FITS_MAGIC)


def decode_fits(data: bytes, limits: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Decode the first image of a FITS file, with an asinh stretch.

    Parameters
    ----------
    data : bytes
        The file: an image (H, W), or a cube (3, H, W) whose planes go from blue to red, as those
        of Legacy Survey cutouts (g, r, z) do. May be compressed by gzip or fpack.
    limits : (float, float), optional
        Values shown as black and as white; default two percentiles of the image itself.

    Returns
    -------
    (H, W) or (H, W, 3) ndarray of uint8
        Rows from the top of the sky, as in other images: FITS counts them from the bottom.
        Colours by Lupton et al. (2004, PASP 116, 133). NaN is black.

    Raises
    ------
    ValueError
        No image, of another shape, without a finite value, or unreadable.
    """
    values = _read_values(_decompress(data)).astype(np.float64)
    intensity = values if values.ndim == 2 else values.mean(axis=0)
    finite = intensity[np.isfinite(intensity)]
    if not len(finite):
        raise ValueError("no finite value in the image")

    from astropy.visualization import AsinhStretch, ManualInterval, make_lupton_rgb

    low, high = limits or np.percentile(finite, PERCENTILES)
    if not high > low:
        low, high = low - 0.5, low + 0.5
    if values.ndim == 2:
        scaled = AsinhStretch(SOFTENING)(ManualInterval(low, high)(np.nan_to_num(values, nan=low)))
        return np.rint(255 * scaled).astype(np.uint8)[::-1]
    # The same stretch of the intensity, in Lupton's parameters.
    strength = 10 * math.sinh(0.1 * math.asinh(1 / SOFTENING))
    blue, green, red = np.nan_to_num(values, nan=low)
    # astropy divides by zero where the sky is black, and then takes the zero.
    with np.errstate(divide="ignore", invalid="ignore"):
        return make_lupton_rgb(
            red,
            green,
            blue,
            minimum=low,
            stretch=strength * SOFTENING * (high - low),
            Q=strength,
        )[::-1]


def _read_values(data: bytes) -> NDArray[Any]:
    """Return the first image with two or three axes."""
    from astropy.io import fits

    try:
        # What astropy thinks of a header's style is not the user's concern.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(data)) as hdus:
                for hdu in hdus:
                    if not hdu.is_image or not hdu.shape:
                        continue
                    shape = hdu.shape
                    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
                        size = " × ".join(map(str, reversed(shape)))
                        raise ValueError(f"an image of {size}, expected one plane or three")
                    if math.prod(shape) > MAX_VALUES:
                        raise ValueError(f"an image of {math.prod(shape)} values, too large")
                    return hdu.data[0] if shape[0] == 1 and len(shape) == 3 else hdu.data
    except (OSError, TypeError, KeyError, IndexError, AttributeError) as exc:
        raise ValueError(f"damaged FITS: {' '.join(str(exc).split())}") from exc
    raise ValueError("a FITS file without an image")


def _decompress(data: bytes) -> bytes:
    """Undo gzip, up to the size of the largest image."""
    if not data.startswith(GZIP_MAGIC):
        return data
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(data, 8 * MAX_VALUES)
    except zlib.error as exc:
        raise ValueError(f"damaged gzip: {exc}") from exc
    if not stream.eof:
        raise ValueError("gzip that is cut off, or too large")
    return plain
