"""FITS images: fluxes stretched to eight bits, so that they become cutouts like any others."""

import io
import math
import zlib

import numpy as np
from numpy.typing import NDArray

from galfig.images.decoders import UnusableError, guard_decoder

# A larger image is a mosaic, or a file made to exhaust the memory.
MAX_VALUES = 1 << 28
GZIP_MAGIC, FITS_MAGIC = b"\x1f\x8b", b"SIMPLE"
# Fraction of the range where the asinh stretch turns from linear to logarithmic.
SOFTENING = 0.1
# Percentiles of the pixels that are black and white by default.
PERCENTILES = (0.25, 99.75)


def is_fits(data: bytes) -> bool:
    """Return whether bytes begin like a FITS file, compressed by gzip or not.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    bool
    """
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
        The file, which may be compressed by gzip or fpack. It holds an image (H, W), or a cube
        (3, H, W) with planes from blue to red, as in Legacy Survey cutouts (g, r, z).
    limits : (float, float), optional
        Values shown as black and as white, in the unit of the image; default the 0.25 and 99.75
        percentiles of the image itself.

    Returns
    -------
    (H, W) or (H, W, 3) ndarray of uint8
        Rows from top to bottom, as in other images; FITS stores them from the bottom. Colours
        follow Lupton et al. [1]_. NaN is black.

    Raises
    ------
    ValueError
        If the file holds no image, an image of another shape or without a finite value, or
        cannot be read.

    References
    ----------
    .. [1] Lupton et al. 2004, PASP 116, 133, arXiv:astro-ph/0312483
    """
    values = _read_values(_decompress(data))
    # The results below handle infinite values and their sums, so numpy need not warn of them.
    with np.errstate(all="ignore"):
        intensity = values if values.ndim == 2 else values.mean(axis=0)
        finite = intensity[np.isfinite(intensity)]
        if not len(finite):
            raise ValueError("no finite value in the image")
        low, high = limits or np.percentile(finite, PERCENTILES)
        if not math.isfinite(high - low):
            raise ValueError(f"values from {low:.3g} to {high:.3g}, a range beyond float64")
        if not high > low:
            low, high = low - 0.5, low + 0.5
        return _stretch(values, low, high)[::-1]


def _stretch(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """Map low to black and high to white; NaN and minus infinity are black."""
    from astropy.visualization import AsinhStretch, ManualInterval, make_lupton_rgb

    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if values.ndim == 2:
        scaled = AsinhStretch(SOFTENING)(ManualInterval(low, high)(values))
        return np.rint(255 * scaled).astype(np.uint8)
    # The same stretch of the intensity, expressed in the parameters of Lupton et al.
    strength = 10 * math.sinh(0.1 * math.asinh(1 / SOFTENING))
    blue, green, red = values
    # astropy divides by zero where the sky is black, and then replaces the result by zero.
    return make_lupton_rgb(
        red, green, blue, minimum=low, stretch=strength * SOFTENING * (high - low), Q=strength
    )


def _read_values(data: bytes) -> NDArray[np.float64]:
    """Return the first image with two or three axes."""
    from astropy.io import fits

    with guard_decoder(), fits.open(io.BytesIO(data)) as hdus:
        image = next((hdu for hdu in hdus if hdu.is_image and hdu.shape), None)
        if image is None:
            raise UnusableError("a FITS file without an image")
        shape = image.shape
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
            size = " × ".join(map(str, reversed(shape)))
            raise UnusableError(f"an image of {size}, expected one plane or three")
        if not 0 < math.prod(shape) <= MAX_VALUES:
            raise UnusableError(f"{math.prod(shape)} values, expected 1 to {MAX_VALUES}")
        values = np.asarray(image.data, dtype=np.float64)
        return values[0] if len(shape) == 3 and shape[0] == 1 else values


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
        raise ValueError("gzip data that is truncated or too large")
    return plain
