"""FITS images: fluxes stretched to eight bits, so that they become cutouts like any others."""

import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galfig.images.decoders import (
    MeteredBytes,
    UnusableError,
    decoding_memory,
    guard_decoder,
)

if TYPE_CHECKING:
    from astropy.io.fits import CompImageHDU

# A larger image is a mosaic, or a file made to exhaust the memory.
MAX_VALUES = 1 << 26
# Largest file, also unpacked [byte]: the largest image, in double precision.
MAX_BYTES = 8 * MAX_VALUES
# A file that is no larger when unpacked [byte] needs no turn of its own.
MAX_SMALL = 1 << 24
# Longest header [byte]: some 36 000 cards, which take astropy a second.
MAX_HEADER = 1000 * 2880
# Values stretched at a time, so that few are in double precision at once.
BLOCK = 1 << 20
GZIP_MAGIC, FITS_MAGIC, END_CARD = b"\x1f\x8b", b"SIMPLE", b"END".ljust(80)
# Compressions of tiles that are decoded. PLIO is for masks.
TILES = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "NOCOMPRESS")
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
        If the file holds no image, an image of another shape, without a finite value or of more
        than `MAX_VALUES` values, or cannot be read.
    MemoryError
        If the memory does not suffice.

    References
    ----------
    .. [1] Lupton et al. 2004, PASP 116, 133, arXiv:astro-ph/0312483
    """
    plain = _unpack(data, MAX_SMALL)
    if plain is not None:
        return _decode(plain, limits, is_alone=False)
    with decoding_memory().take(MAX_BYTES):
        plain = _unpack(data, MAX_BYTES)
        if plain is None:
            raise ValueError(f"more than {MAX_BYTES / 1e9:.1f} GB when unpacked, expected less")
        return _decode(plain, limits, is_alone=True)


def _unpack(data: bytes, max_bytes: int) -> bytes | None:
    """Undo gzip; return None if the result is larger than a limit."""
    if not data.startswith(GZIP_MAGIC):
        return data
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(data, max_bytes)
    except zlib.error as exc:
        raise ValueError(f"damaged gzip: {exc}") from exc
    if not stream.eof and len(plain) < max_bytes:
        raise ValueError("gzip data that is truncated")
    return plain if stream.eof else None


def _decode(
    data: bytes, limits: tuple[float, float] | None, *, is_alone: bool
) -> NDArray[np.uint8]:
    """Find, read and stretch the image; ``is_alone`` if the memory for it is taken already."""
    from astropy.io import fits

    if END_CARD not in data[:MAX_HEADER]:
        raise ValueError("a header without an end, or of too many cards, expected a FITS image")
    with guard_decoder(), fits.open(MeteredBytes(data, 1 << 16)) as hdus:
        image = next((hdu for hdu in hdus if hdu.is_image and hdu.shape), None)
        if image is None:
            raise UnusableError("a FITS file without an image")
        _check_shape(image.shape)
        if isinstance(image, fits.CompImageHDU):
            _check_tiles(data, image, hdus.index(image))
        n_values = math.prod(image.shape)
        # The values, read and scaled, their mask and a copy; then a coloured image.
        n_bytes = n_values * (3 * max(32, abs(image.header["BITPIX"])) // 8 + 12)
        with decoding_memory().take(0 if is_alone else n_bytes):
            values = np.asarray(image.data)
            is_plane = values.ndim == 3 and len(values) == 1
            return _stretch_image(values[0] if is_plane else values, limits)


def _check_shape(shape: tuple[int, ...]) -> None:
    """Reject an image with another number of planes, or with too many values."""
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        size = " × ".join(map(str, reversed(shape)))
        raise UnusableError(f"an image of {size}, expected one plane or three")
    if not 0 < math.prod(shape) <= MAX_VALUES:
        raise UnusableError(f"{math.prod(shape)} values, expected 1 to {MAX_VALUES}")


def _check_tiles(data: bytes, image: "CompImageHDU", index: int) -> None:
    """Reject compressed tiles that are not of the size that the header states.

    astropy inflates gzip without a limit. Where a stream of HCOMPRESS states another size, the
    decoder writes beyond its buffer.
    """
    from astropy.io import fits

    kind = image.compression_type
    if kind not in TILES:
        raise UnusableError(f"tiles compressed by {kind}, expected RICE or GZIP; compress it again")
    columns = {"COMPRESSED_DATA": kind, "GZIP_COMPRESSED_DATA": "GZIP_1"}
    with fits.open(MeteredBytes(data, 1 << 16), disable_image_compression=True) as hdus:
        table = hdus[index]
        if "NULL_PIXEL_MASK" in table.columns.names:
            raise UnusableError("a compressed mask of missing pixels, expected NaN or ZBLANK")
        for name, kind in columns.items():
            if name in table.columns.names and kind.startswith(("GZIP", "HCOMPRESS")):
                _check_column(table.data[name], kind, image.shape, image.tile_shape)


def _check_column(cells: Any, kind: str, shape: tuple[int, ...], tile: tuple[int, ...]) -> None:
    counts = [-(-length // side) for length, side in zip(shape, tile, strict=True)]
    if len(cells) != math.prod(counts):
        raise UnusableError(f"{len(cells)} compressed tiles, expected {math.prod(counts)}")
    for row, cell in enumerate(cells):
        stream = cell.tobytes()
        start = np.multiply(np.unravel_index(row, counts), tile)
        n_values = math.prod(np.minimum(tile, np.subtract(shape, start)).tolist())
        if not stream:
            continue
        if kind == "HCOMPRESS_1":
            sides = [int.from_bytes(stream[at : at + 4], "big", signed=True) for at in (2, 6)]
            is_sound = min(sides) > 0 and math.prod(sides) == n_values
        else:
            is_sound = _inflates_within(stream, 8 * n_values)
        if not is_sound:
            raise UnusableError(f"damaged, compressed tile {row + 1} has another size than stated")


def _inflates_within(stream: bytes, max_bytes: int) -> bool:
    """Return whether gzip, of one member or more, inflates to no more than a limit."""
    n_bytes = 0
    while stream:
        inflate = zlib.decompressobj(wbits=31)
        n_bytes += len(inflate.decompress(stream, max_bytes - n_bytes + 1))
        if n_bytes > max_bytes or not inflate.eof:
            return False
        stream = inflate.unused_data
    return True


def _stretch_image(values: NDArray[Any], limits: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Stretch one plane or three, block by block, and turn the rows around."""
    # The results below handle infinite values and their sums, so numpy need not warn of them.
    with np.errstate(all="ignore"):
        intensity = values if values.ndim == 2 else values.mean(axis=0, dtype=np.float64)
        finite = intensity[np.isfinite(intensity)]
        if not len(finite):
            raise UnusableError("no finite value in the image")
        low, high = limits or _find_percentiles(finite)
        del finite, intensity
        if not math.isfinite(high - low):
            raise UnusableError(f"values from {low:.3g} to {high:.3g}, a range beyond float64")
        if not high > low:
            low, high = low - 0.5, low + 0.5
        height, width = values.shape[-2:]
        pixels = np.empty((height, width, *values.shape[:-2]), np.uint8)
        n_rows = max(1, BLOCK // width)
        for start in range(0, height, n_rows):
            rows = slice(start, start + n_rows)
            pixels[rows] = _stretch(values[..., rows, :].astype(np.float64), low, high)
        return pixels[::-1]


def _find_percentiles(values: NDArray[Any]) -> tuple[float, float]:
    """Return `PERCENTILES` as `numpy.percentile` does in double precision; reorders the values."""
    places = [(len(values) - 1) * (percentile / 100) for percentile in PERCENTILES]
    below = [math.floor(place) for place in places]
    above = [min(index + 1, len(values) - 1) for index in below]
    values.partition(sorted({*below, *above}))
    found = []
    for place, index, other in zip(places, below, above, strict=True):
        first, second, weight = float(values[index]), float(values[other]), place - index
        step = second - first
        found.append(first + step * weight if weight < 0.5 else second - step * (1 - weight))
    return found[0], found[1]


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
