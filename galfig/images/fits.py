"""FITS images: found in their files and read, so that they become cutouts like any others."""

import math
import re
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galfig.config import MAX_CHANNELS
from galfig.images.decoders import (
    MeteredBytes,
    UnusableError,
    decoding_memory,
    guard_decoder,
)
from galfig.images.stretch import BY_SKY, Stretch, stretch_image

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
GZIP_MAGIC, FITS_MAGIC, END_CARD = b"\x1f\x8b", b"SIMPLE", b"END".ljust(80)
# Compressions of tiles that are decoded. PLIO is for masks.
TILES = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "NOCOMPRESS")
# Names of extensions that go with an image: its weights, errors and masks.
_COMPANION = re.compile(
    r"^(WHT|WEIGHTS?|INVVAR|IVAR|VAR|VARIANCE|ERR|ERROR|RMS|SIGMA|DQ|MASK|MSK|FLAGS?|EXP|CTX|CON|"
    r"NEXP|PSF)(_.*)?$",
    re.IGNORECASE,
)


def _ignore(header: Any, axes: tuple[int, int]) -> None:
    """Do nothing with a header."""


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


@dataclass(frozen=True)
class Choice:
    """Which images of a FITS file are used.

    Attributes
    ----------
    extensions : tuple of str or int, or None
        Names or numbers of the extensions; None for the first that holds an image.
    planes : tuple of int or None
        Planes of a cube, from 0, in the order of the channels; None for all.
    """

    extensions: tuple[str | int, ...] | None = None
    planes: tuple[int, ...] | None = None


FIRST = Choice()


def decode_fits(
    data: bytes | Sequence[bytes],
    stretch: Stretch = BY_SKY,
    choice: Choice = FIRST,
    *,
    on_header: Callable[[Any, tuple[int, int]], object] = _ignore,
) -> NDArray[np.uint8]:
    """Decode an image of one FITS file or several, and stretch it.

    Parameters
    ----------
    data : bytes, or sequence of bytes
        The file, which may be compressed by gzip or fpack; or a file per band. By default, a file
        holds an image (H, W), or a cube (3, H, W) with planes from blue to red, as in Legacy Survey
        cutouts (g, r, z). Axes of length one do not count.
    stretch : Stretch, default `BY_SKY`
        How fluxes become pixels.
    choice : Choice, default `FIRST`
        The extensions and planes to use. Several extensions, and planes that are chosen, are in
        the order of the channels: red comes first.
    on_header : callable, optional
        Called, once the image is found to be usable, with the header of the first one that is used
        and with its axes, counted from 1, that lie to the right and upwards.

    Returns
    -------
    (H, W) or (H, W, B) ndarray of uint8
        Rows from top to bottom, as in other images; FITS stores them from the bottom.

    Raises
    ------
    ValueError
        If a file holds no image, an image of another shape, without a finite value or of more
        than `MAX_VALUES` values, or cannot be read.
    MemoryError
        If the memory does not suffice.
    """
    files = [data] if isinstance(data, bytes) else list(data)
    plain = [_unpack(one, MAX_SMALL) for one in files]
    if None not in plain:
        found = [one for one in plain if one is not None]
        return _decode(found, stretch, choice, on_header, is_alone=False)
    with decoding_memory().take(MAX_BYTES):
        plain = [_unpack(one, MAX_BYTES // len(files)) for one in files]
        if None in plain:
            raise ValueError(f"more than {MAX_BYTES / 1e9:.1f} GB when unpacked, expected less")
        found = [one for one in plain if one is not None]
        return _decode(found, stretch, choice, on_header, is_alone=True)


def measure_fits(data: bytes, choice: Choice = FIRST) -> tuple[int, int, tuple[str, ...]]:
    """Read the size of an image from its header, and what else the file holds.

    Parameters
    ----------
    data : bytes
        The file.
    choice : Choice, default `FIRST`
        The extensions that are used.

    Returns
    -------
    height, width : int
        Size of the image [pixels].
    unused : tuple of str
        Names, or numbers, of the further images in the file.

    Raises
    ------
    ValueError
        If the file holds no such image, or cannot be read.
    """
    from astropy.io import fits

    plain = _unpack(data, MAX_SMALL)
    if plain is None or END_CARD not in plain[:MAX_HEADER]:
        raise ValueError("a large or damaged file, whose size is known once it is read")
    with guard_decoder(), fits.open(MeteredBytes(plain, 1 << 16)) as hdus:
        used = [_find_extension(hdus, key) for key in choice.extensions or ()]
        used = used or [_find_first(hdus)]
        names = [
            hdu.name or str(number)
            for number, hdu in enumerate(hdus)
            if hdu not in used and hdu in list_images(hdus)
        ]
        shape = drop_single(used[0].shape)
        is_last = len(shape) == 3 and _plane_axis(shape) == 2
        height, width = shape[:2] if is_last else shape[-2:]
        return height, width, tuple(names)


def is_companion(name: str) -> bool:
    """Return whether an extension is, by its name, the weights, errors or mask of an image."""
    return _COMPANION.search(name) is not None


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
    files: list[bytes],
    stretch: Stretch,
    choice: Choice,
    on_header: Callable[[Any, tuple[int, int]], object],
    *,
    is_alone: bool,
) -> NDArray[np.uint8]:
    """Find, read and stretch the images; ``is_alone`` if the memory for it is taken already."""
    with guard_decoder(), ExitStack() as stack:
        found = [image for data in files for image in _open_images(data, choice, stack)]
        # The values, read and scaled, their mask and a copy; then a coloured image.
        n_bytes = sum(
            math.prod(image.shape) * (3 * max(32, abs(image.header["BITPIX"])) // 8 + 12)
            for image in found
        )
        _check_count(sum(math.prod(image.shape) for image in found))
        with decoding_memory().take(0 if is_alone else n_bytes):
            planes = _collect([_read_planes(image, choice) for image in found])
            if choice.planes is None and len(found) == 1 and len(planes) == 3:
                # Files have the shortest wavelength first, pixels the longest.
                planes = planes[::-1]
            # A file stores its rows from the bottom.
            pixels = (planes[0] if len(planes) == 1 else planes)[..., ::-1, :]
            stretched = stretch_image(pixels, stretch)
        on_header(found[0].header, find_axes(found[0].shape))
        return stretched


def _open_images(data: bytes, choice: Choice, stack: ExitStack) -> list[Any]:
    """Open a file and return the images of it that are used, none of which has been read."""
    from astropy.io import fits

    if END_CARD not in data[:MAX_HEADER]:
        raise ValueError("a header without an end, or of too many cards, expected a FITS image")
    hdus = stack.enter_context(fits.open(MeteredBytes(data, 1 << 16)))
    images = [_find_extension(hdus, key) for key in choice.extensions or ()]
    for image in images or [_find_first(hdus)]:
        _check_shape(drop_single(image.shape), choice, is_alone=len(images) < 2)
        if isinstance(image, fits.CompImageHDU):
            _check_tiles(data, image, hdus.index(image))
    return images or [_find_first(hdus)]


def list_images(hdus: Any) -> list[Any]:
    """Return the HDUs of a file that hold an image of two axes or more, with values.

    A primary HDU is often empty, with no axes, with one, or with axes of length zero.
    """
    return [
        hdu
        for hdu in hdus
        if hdu.is_image and len(drop_single(hdu.shape)) >= 2 and math.prod(hdu.shape)
    ]


def _find_first(hdus: Any) -> Any:
    """Return the first image that is not, by its name, the weights or the mask of another."""
    images = list_images(hdus)
    if not images:
        raise UnusableError("a FITS file without an image")
    return next((one for one in images if not is_companion(one.name)), images[0])


def _find_extension(hdus: Any, key: str | int) -> Any:
    """Return an extension by its name or number."""
    there = ", ".join(f"{number} {hdu.name}".strip() for number, hdu in enumerate(hdus))
    try:
        found = hdus[key]
    except (KeyError, IndexError):
        raise UnusableError(f"no extension {key!r}, expected one of: {there[:300]}") from None
    if found not in list_images(hdus):
        raise UnusableError(f"extension {key!r} holds no image; there are: {there[:300]}")
    return found


def drop_single(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of length one, as radio images have for frequency and Stokes.

    Two axes remain in any case.
    """
    sides = list(shape)
    while len(sides) > 2 and 1 in sides:
        sides.remove(1)
    return tuple(sides)


def find_axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return which axes of FITS, counted from 1, an image has to the right and upwards.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image as an array, in which the axes of FITS are in reverse.

    Returns
    -------
    (int, int)
    """
    axes, sides = list(range(len(shape), 0, -1)), list(shape)
    while len(sides) > 2 and 1 in sides:
        # As `drop_single` does.
        single = sides.index(1)
        del axes[single], sides[single]
    if len(sides) == 3 and _plane_axis(tuple(sides)) == 2:
        return axes[1], axes[0]
    return axes[-1], axes[-2]


def _check_shape(shape: tuple[int, ...], choice: Choice, *, is_alone: bool) -> None:
    """Reject an image without the planes that are asked for, or with others than are known."""
    size = " × ".join(map(str, reversed(shape)))
    if len(shape) not in (2, 3):
        raise UnusableError(f"an image of {size}, expected one of two axes, or a cube of three")
    n_planes = 1 if len(shape) == 2 else shape[_plane_axis(shape)]
    if choice.planes is not None:
        if max(choice.planes) >= n_planes:
            raise UnusableError(
                f"an image of {size}, expected plane {max(choice.planes)}, counted from 0"
            )
    elif not is_alone and n_planes > 1:
        raise UnusableError(f"an image of {size}, expected one plane in each extension")
    elif n_planes not in (1, 3) or (len(shape) == 3 and shape[0] != n_planes):
        raise UnusableError(
            f"an image of {size}, expected one plane or three; choose with [catalog] planes, such "
            "as planes = [2, 1, 0] for red, green and blue"
        )


def _plane_axis(shape: tuple[int, ...]) -> int:
    """Return the axis of the planes of a cube: the first, unless only the last is short."""
    is_last = shape[-1] <= MAX_CHANNELS < min(shape[:2])
    return 2 if is_last else 0


def _check_count(n_values: int) -> None:
    if not 0 < n_values <= MAX_VALUES:
        raise UnusableError(f"{n_values} values, expected 1 to {MAX_VALUES}")


def _read_planes(image: Any, choice: Choice) -> NDArray[Any]:
    """Read the planes (B, H, W) of an image that are used."""
    values = np.asarray(image.data)
    values = values.reshape(drop_single(values.shape))
    if values.ndim == 2:
        values = values[None]
    elif _plane_axis(values.shape):
        values = np.moveaxis(values, -1, 0)
    return values if choice.planes is None else values[list(choice.planes)]


def _collect(images: list[NDArray[Any]]) -> NDArray[Any]:
    """Join the planes of several images, which must be of one size."""
    if len(images) == 1:
        return images[0]
    sizes = [f"{one.shape[2]} × {one.shape[1]}" for one in images]
    if len(set(sizes)) > 1:
        raise UnusableError(
            f"bands of {' and '.join(dict.fromkeys(sizes))} pixels, expected one size"
        )
    if any(len(one) > 1 for one in images):
        raise UnusableError("a cube in a file of one band, expected one plane")
    return np.concatenate(images)


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
