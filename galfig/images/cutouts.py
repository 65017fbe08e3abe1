"""Cutouts: image files decoded, cropped to the centre and scaled to the input of the network."""

import errno
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from galfig.config import CatalogSettings
from galfig.errors import ConfigError, CutoutError, LostCutoutError, OutputError
from galfig.images.ahead import map_ahead
from galfig.images.arrays import decode_array, is_array
from galfig.images.celestial import UNKNOWN, View, find_center, read_view
from galfig.images.fits import FIRST, MAX_BYTES, Choice, decode_fits, is_fits
from galfig.images.raster import decode_raster
from galfig.images.sources import Source, join_parts, read_parts
from galfig.images.stretch import BY_SKY, Lupton, Stretch
from galfig.runtime.inputs import is_fault_of_machine
from galfig.runtime.machine import count_processors, find_memory
from galfig.runtime.messages import one_line
from galfig.runtime.progress import track

logger = logging.getLogger(__name__)

# Largest fraction of the memory that decoded images may fill; more than that goes to a file.
MEMORY_SHARE = 0.25
# Images decoded ahead, per thread.
N_AHEAD = 8
# A smaller image [pixels] is an icon, or the placeholder that a server sends for "no image".
MIN_SIDE = 8
# Errors that say that the machine is short of something.
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EAGAIN}


@dataclass(frozen=True)
class Decoding:
    """How image files become pixels.

    Attributes
    ----------
    n_channels : int
        Channels of the pixels, whatever the file holds: 3 for RGB, 1 for one band. For one band,
        a colour image is reduced to its luminance (ITU-R 601-2). Any other number is that of the
        bands, planes or extensions that are chosen.
    stretch : Stretch
        How fluxes become pixels; see `galfig.images.stretch.stretch_image`.
    choice : Choice
        Extensions and planes of FITS files; see `galfig.images.fits.decode_fits`.
    is_whole : bool
        Whether the whole image is scaled to the cutout, instead of cropped or padded.
    """

    n_channels: int = 3
    stretch: Stretch = BY_SKY
    choice: Choice = FIRST
    is_whole: bool = False


RGB = Decoding()


def choose_decoding(catalog: CatalogSettings, n_channels: int) -> Decoding:
    """Return how image files become pixels by the settings.

    Parameters
    ----------
    catalog : CatalogSettings
        The settings.
    n_channels : int
        Number of channels of the network.

    Returns
    -------
    Decoding

    Raises
    ------
    ConfigError
        If the settings name another number of channels.
    """
    if n_channels not in (1, catalog.n_channels) or (n_channels == 1 and catalog.n_channels != 3):
        raise ConfigError(
            f"the network sees {n_channels} channels, but the settings name {catalog.n_channels}; "
            "set [catalog] planes, extensions or bands to those that it was trained on"
        )
    return Decoding(
        n_channels,
        Stretch(catalog.fits_range, catalog.stretch, Lupton(**catalog.record_lupton())),
        Choice(catalog.extensions, catalog.planes),
        catalog.scale == "whole",
    )


def _ignore(source: Source, data: bytes) -> None:
    """Do nothing with the bytes of a file."""


def _ignore_header(header: Any, axes: tuple[int, int]) -> None:
    """Do nothing with the header of an image."""


def read_cutout(
    path: Source,
    size: int,
    decoding: Decoding = RGB,
    *,
    on_bytes: Callable[[Source, bytes], object] = _ignore,
    on_view: Callable[[Source, View], object] | None = None,
) -> NDArray[np.uint8]:
    """Decode an image file and take its centre.

    Parameters
    ----------
    path : Path, BandFiles or Element
        JPEG, PNG, TIFF, GIF, BMP, WebP or FITS file; several of one band each; or an element of
        an array.
    size : int
        Side of the cutout [pixels].
    decoding : Decoding, default RGB
        How the file becomes pixels.
    on_bytes : callable, optional
        Called with the path and the bytes of the file before these are decoded.
    on_view : callable, optional
        Called with the path and how the cutout lies on the sky, as far as a FITS header says it.

    Returns
    -------
    (size, size, n_channels) ndarray of uint8
        (y, x), RGB last.

    Raises
    ------
    CutoutError
        If the file is truncated, is not an image, or holds an image that cannot be used.
    LostCutoutError
        If the file is missing or may not be read, the file system no longer responds, or the
        memory does not suffice.
    """
    if on_view is None:
        image = decode_image(path, decoding, on_bytes=on_bytes)
    else:
        headers: list[tuple[Any, tuple[int, int]]] = []
        image = decode_image(
            path, decoding, on_bytes=on_bytes, on_header=lambda *header: headers.append(header)
        )
        on_view(path, _find_view(headers, image.shape[:2], size, is_whole=decoding.is_whole))
    return fit_image(image, size, is_whole=decoding.is_whole)


def _find_view(
    headers: Sequence[tuple[Any, tuple[int, int]]],
    shape: Sequence[int],
    size: int,
    *,
    is_whole: bool,
) -> View:
    """Return how the cutout of an image (H, W) lies on the sky, by the header that it may have."""
    height, width = shape
    side = min(height, width) if is_whole else size
    zoom = side / size
    if not headers:
        return UNKNOWN._replace(zoom=zoom)
    header, axes = headers[0]
    view = read_view(header, axes, find_center(height, width, side))
    return view._replace(pixel_scale=view.pixel_scale * zoom, zoom=zoom)


def fit_image(image: NDArray[np.uint8], size: int, *, is_whole: bool) -> NDArray[np.uint8]:
    """Make a cutout of an image: its centre, or the whole of it scaled.

    Parameters
    ----------
    image : (H, W, n_channels) ndarray of uint8
        The image.
    size : int
        Side of the cutout [pixels].
    is_whole : bool
        Whether to scale the largest square around the centre of the image.

    Returns
    -------
    (size, size, n_channels) ndarray of uint8
    """
    if not is_whole:
        return crop_or_pad(image, size)
    return scale_cutout(crop_or_pad(image, min(image.shape[:2])), size)


def decode_image(
    path: Source,
    decoding: Decoding = RGB,
    *,
    on_bytes: Callable[[Source, bytes], object] = _ignore,
    on_header: Callable[[Any, tuple[int, int]], object] = _ignore_header,
) -> NDArray[np.uint8]:
    """Decode a whole image file.

    Parameters
    ----------
    path : Path, BandFiles or Element
        JPEG, PNG, TIFF, GIF, BMP, WebP or FITS file; several of one band each; or an element of
        an array.
    decoding : Decoding, default RGB
        How the file becomes pixels.
    on_bytes : callable, optional
        Called with the path and the bytes of the file before these are decoded.
    on_header : callable, optional
        Called with the header of FITS and the axes that are drawn; see
        `galfig.images.fits.decode_fits`.

    Returns
    -------
    (H, W, n_channels) ndarray of uint8
        (y, x), RGB last.

    Raises
    ------
    CutoutError
        If the file is truncated, is not an image, or holds an image that cannot be used.
    LostCutoutError
        If the file is missing or may not be read, the file system no longer responds, or the
        memory does not suffice.
    """
    try:
        parts = _read_files(path)
        on_bytes(path, join_parts(parts))
        pixels = _decode(parts, decoding, on_header)
    except ValueError as exc:
        raise CutoutError(f"{path}: {exc}") from exc
    except Exception as exc:
        if is_fault_of_machine(exc):
            raise _make_lost(path, exc) from exc
        raise
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise CutoutError(
            f"{path}: {width} × {height} pixels, expected at least {MIN_SIDE} on each side"
        )
    if _is_blank(pixels):
        raise CutoutError(f"{path}: all pixels are the same, expected an image of a galaxy")
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _is_blank(pixels: NDArray[np.uint8]) -> bool:
    """Return whether all pixels are the same, as in the stamps of servers without data."""
    # Nearly every image is told by a few of its pixels.
    return all(bool((some == some[0, 0]).all()) for some in (pixels[::16, ::16], pixels))


def _decode(
    parts: list[bytes], decoding: Decoding, on_header: Callable[[Any, tuple[int, int]], object]
) -> NDArray[np.uint8]:
    """Decode a file, or one file per band."""
    if all(map(is_fits, parts)):
        pixels = decode_fits(parts, decoding.stretch, decoding.choice, on_header=on_header)
    elif len(parts) == 1:
        pixels = _decode_other(parts[0], decoding.n_channels, decoding.stretch)
    elif any(map(is_fits, parts)):
        raise ValueError("FITS and other formats among its bands, expected one format")
    else:
        bands = [_decode_other(part, 1, decoding.stretch) for part in parts]
        sizes = [f"{band.shape[1]} × {band.shape[0]}" for band in bands]
        if len(set(sizes)) > 1:
            raise ValueError(f"bands of {' and '.join(dict.fromkeys(sizes))}, expected one size")
        pixels = np.stack(bands, axis=-1)
    return _fit_channels(pixels, decoding.n_channels)


def _decode_other(data: bytes, n_channels: int, stretch: Stretch) -> NDArray[np.uint8]:
    """Decode a file that is not FITS."""
    if is_array(data):
        return decode_array(data, stretch)
    return decode_raster(data, 1 if n_channels == 1 else 3)


def _fit_channels(pixels: NDArray[np.uint8], n_channels: int) -> NDArray[np.uint8]:
    """Return pixels with the channels that are asked for; raise ValueError if they have others."""
    n_found = 1 if pixels.ndim == 2 else pixels.shape[2]
    if n_found == 1 and n_channels == 3:
        # Grey in every channel, without three copies of what may be a large image.
        return np.broadcast_to(pixels.reshape(*pixels.shape[:2], 1), (*pixels.shape[:2], 3))
    if n_found == 3 and n_channels == 1:
        return np.asarray(Image.fromarray(pixels).convert("L"))
    if n_found != n_channels:
        raise ValueError(
            f"{n_found} channels, expected {n_channels}; see [catalog] planes, extensions and bands"
        )
    return pixels


def _read_files(source: Source) -> list[bytes]:
    """Read the files of an image; raise ValueError if one cannot be an image."""
    try:
        parts = read_parts(source, MAX_BYTES)
    except IsADirectoryError as exc:
        raise ValueError("a folder, expected an image") from exc
    except OSError as exc:
        if is_fault_of_machine(exc):
            raise
        raise ValueError(str(exc.strerror)) from exc
    if not all(parts):
        raise ValueError("empty file, expected an image")
    return parts


def _make_lost(path: Source, exc: Exception) -> LostCutoutError:
    """Make the error for an image that the machine cannot read or decode today."""
    reason = getattr(exc, "strerror", None) or one_line(exc) or "out of memory"
    if isinstance(exc, PermissionError):
        found, when = "may not be read", "when it may"
    elif isinstance(exc, OSError) and exc.errno not in _SHORTAGES:
        found, when = "lost", "when it is back"
    else:
        found, when = "cannot be read now", "when the machine has more to spare"
    return LostCutoutError(
        f"{path}: {found} ({reason}), expected the image that was listed; {when}, run this again "
        "(a training continues with `resume`), or remove the file to leave out its galaxy"
    )


def crop_or_pad(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Take the centre of an image, padded with zeros where the image is smaller.

    Where the sizes differ by an odd number, the extra pixel is at the bottom and at the right, as
    in fastai's ``CropPad``.

    Parameters
    ----------
    image : (H, W, n_channels) ndarray of uint8
        The image.
    size : int
        Side of the cutout [pixels].

    Returns
    -------
    (size, size, n_channels) ndarray of uint8
    """
    cutout = np.zeros((size, size, image.shape[2]), dtype=image.dtype)
    source, target = zip(*(_overlap(length, size) for length in image.shape[:2]), strict=True)
    cutout[target] = image[source]
    return cutout


def scale_cutout(cutout: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Scale a square cutout bilinearly; shrinking averages over pixels.

    Parameters
    ----------
    cutout : (S, S, n_channels) ndarray of uint8
        The cutout.
    size : int
        Side after scaling [pixels].

    Returns
    -------
    (size, size, n_channels) ndarray of uint8
        The cutout itself where it has this size already.
    """
    if cutout.shape[0] == size:
        return cutout
    if cutout.shape[2] == 3:
        return _resize(cutout, size)
    # Pillow knows one channel and three, and each channel is scaled by itself in any case.
    return np.stack([_resize(band, size) for band in np.moveaxis(cutout, -1, 0)], axis=-1)


def _resize(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def load_cutouts(
    paths: Sequence[Source],
    cutout_size: int,
    image_size: int,
    decoding: Decoding = RGB,
    *,
    n_workers: int | None = None,
    on_bytes: Callable[[Source, bytes], object] = _ignore,
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode, crop and scale every file once, for a network that sees each image many times.

    Parameters
    ----------
    paths : sequence of Path, BandFiles or Element
        N images.
    cutout_size : int
        Side of the central crop [pixels].
    image_size : int
        Side of the crop after scaling [pixels].
    decoding : Decoding, default RGB
        How the files become pixels.
    n_workers : int, optional
        Number of threads; default one per processor.
    on_bytes : callable, optional
        Called in these threads with the path and the bytes of each file.

    Returns
    -------
    cutouts : (N, image_size, image_size, n_channels) ndarray of uint8
        The images, zero where a file cannot be decoded. They are in memory, or in a temporary
        file where they would fill more than a quarter of it.
    reasons : dict of int to str
        Why a file cannot be decoded, by its position.

    Raises
    ------
    OutputError
        If there is no room for the temporary file.
    LostCutoutError
        If a file is missing or may not be read, the file system no longer responds, or the memory
        does not suffice.
    """
    shape = (len(paths), image_size, image_size, decoding.n_channels)
    cutouts = _allocate(shape)
    reasons: dict[int, str] = {}
    decoded = iter_cutouts(paths, cutout_size, decoding, n_workers=n_workers, on_bytes=on_bytes)
    tracked = track(decoded, "reading images", len(paths), "images", leave=False)
    for row, cutout in enumerate(tracked):
        if isinstance(cutout, CutoutError):
            reasons[row] = str(cutout)
        else:
            cutouts[row] = scale_cutout(cutout, image_size)
    return cutouts, reasons


def _allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an array of zeros, in memory or in a file without a name."""
    n_bytes = math.prod(shape)
    if n_bytes <= find_memory() * MEMORY_SHARE:
        return np.zeros(shape, np.uint8)
    logger.info(
        "%.1f GB of decoded images, more than a quarter of the memory (%.1f GB): they go to a "
        "temporary file in %s",
        n_bytes / 1e9,
        find_memory() / 1e9,
        tempfile.gettempdir(),
    )
    try:
        with tempfile.TemporaryFile() as file:
            # In a sparse file on a full disk, the first write to a hole would kill the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as exc:
        raise OutputError(
            f"{tempfile.gettempdir()}: no room for {n_bytes / 1e9:.1f} GB of decoded images "
            f"({exc.strerror}); set TMPDIR to a folder with more space"
        ) from exc


def iter_cutouts(
    paths: Iterable[Source],
    size: int,
    decoding: Decoding = RGB,
    *,
    n_workers: int | None = None,
    on_bytes: Callable[[Source, bytes], object] = _ignore,
) -> Iterator[NDArray[np.uint8] | CutoutError]:
    """Decode files in threads, some ahead of the consumer.

    Parameters
    ----------
    paths : iterable of Path, BandFiles or Element
        Images.
    size : int
        Side of the cutouts [pixels].
    decoding : Decoding, default RGB
        How the files become pixels.
    n_workers : int, optional
        Number of threads; default one per processor.
    on_bytes : callable, optional
        Called in these threads with the path and the bytes of each file.

    Yields
    ------
    (size, size, n_channels) ndarray of uint8, or CutoutError
        In the order of the paths. Where a file cannot be decoded, the error is yielded, not
        raised.

    Raises
    ------
    LostCutoutError
        If a file is missing or may not be read, the file system no longer responds, or the memory
        does not suffice.
    """

    def read(path: Source) -> NDArray[np.uint8] | CutoutError:
        try:
            return read_cutout(path, size, decoding, on_bytes=on_bytes)
        except CutoutError as exc:
            return exc

    n_workers = n_workers or count_processors()
    n_ahead = choose_ahead(N_AHEAD * n_workers, size * size * decoding.n_channels, n_workers)
    with ThreadPoolExecutor(n_workers) as pool:
        yield from map_ahead(pool, read, paths, n_ahead=n_ahead)


def choose_ahead(n_wanted: int, n_bytes: int, n_workers: int) -> int:
    """Return how many results to hold ahead of their use, so that they fit in the memory.

    Parameters
    ----------
    n_wanted : int
        How many to hold where memory is no matter.
    n_bytes : int
        Size of a result [byte].
    n_workers : int
        Number of threads.

    Returns
    -------
    int
        As many as fit in a quarter of the memory, but one per thread at least.
    """
    n_fitting = int(MEMORY_SHARE * find_memory()) // n_bytes
    return max(n_workers, min(n_wanted, n_fitting))


def _overlap(length: int, size: int) -> tuple[slice, slice]:
    """Return the slices, along an axis, of the image and the cutout that hold the same pixels."""
    offset = (length - size) // 2
    start, stop = max(offset, 0), min(offset + size, length)
    return slice(start, stop), slice(start - offset, stop - offset)
