"""Cutouts: image files decoded, cropped to the centre and scaled to what the network sees."""

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from galfig.errors import CutoutError, LostCutoutError, OutputError
from galfig.images.ahead import map_ahead
from galfig.images.fits import MAX_VALUES, decode_fits, is_fits
from galfig.images.raster import decode_raster
from galfig.runtime.progress import track

# Of the memory, for decoded images; what is more goes to a file.
MEMORY_SHARE = 0.25
# Images that are decoded ahead, a thread.
N_AHEAD = 8
# No galaxy is smaller [pixels]; what is, is an icon or what a server sends for "no image".
MIN_SIDE = 8
# Of a file [byte]: the largest FITS image that is decoded, in double precision.
MAX_BYTES = 8 * MAX_VALUES


@dataclass(frozen=True)
class Decoding:
    """How image files become pixels.

    Attributes
    ----------
    n_channels : int
        3 for RGB, whatever the file holds; 1 for one band: an image of one channel as it is, the
        luminance of a colour image (ITU-R 601-2).
    fits_range : (float, float) or None
        Values of FITS images shown as black and as white; see `galfig.images.fits.decode_fits`.
    """

    n_channels: int = 3
    fits_range: tuple[float, float] | None = None


RGB = Decoding()


def read_cutout(path: Path, size: int, decoding: Decoding = RGB) -> NDArray[np.uint8]:
    """Decode an image file and take its centre.

    Parameters
    ----------
    path : Path
        JPEG, PNG, TIFF, GIF, BMP, WebP or FITS.
    size : int
        Side of the cutout [pixels].
    decoding : Decoding, default RGB
        How pixels are read.

    Returns
    -------
    (size, size, n_channels) ndarray of uint8
        (y, x), RGB last.

    Raises
    ------
    CutoutError
        A file that is truncated, no image, or an image that cannot be used.
    LostCutoutError
        A file that is missing, or a file system that no longer answers.
    """
    return crop_or_pad(decode_image(path, decoding), size)


def decode_image(path: Path, decoding: Decoding = RGB) -> NDArray[np.uint8]:
    """Decode an image file, (H, W, n_channels); raises what `read_cutout` raises."""
    path = Path(path)
    data = _read_file(path)
    try:
        if is_fits(data):
            image = Image.fromarray(decode_fits(data, decoding.fits_range))
            pixels = np.asarray(image.convert("RGB" if decoding.n_channels == 3 else "L"))
        else:
            pixels = decode_raster(data, decoding.n_channels)
    except ValueError as exc:
        raise CutoutError(f"{path}: {exc}") from exc
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise CutoutError(
            f"{path}: {width} × {height} pixels, expected at least {MIN_SIDE} on each side"
        )
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _read_file(path: Path) -> bytes:
    """Read a file, and tell one that cannot be read from one that is no longer there."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.readall() if size <= MAX_BYTES else b""
    except IsADirectoryError as exc:
        raise CutoutError(f"{path}: a folder, expected an image") from exc
    except PermissionError as exc:
        # Where a ticket for the file system has run out, the folder is closed as well.
        if os.access(path.parent, os.X_OK):
            raise CutoutError(f"{path}: cannot be read ({exc.strerror})") from exc
        raise _make_lost(path, exc) from exc
    except OSError as exc:
        raise _make_lost(path, exc) from exc
    if size > MAX_BYTES:
        raise CutoutError(f"{path}: {size / 1e9:.1f} GB, expected at most {MAX_BYTES / 1e9:.1f}")
    if not data:
        raise CutoutError(f"{path}: empty file, expected an image")
    return data


def _make_lost(path: Path, exc: OSError) -> LostCutoutError:
    """Return the error of a file that was in the folder when it was listed."""
    return LostCutoutError(
        f"{path}: lost ({exc.strerror}), expected the image that was listed; when it is back, run "
        "this again (a training continues with `resume`), or remove the file to leave out its "
        "galaxy"
    )


def crop_or_pad(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Take the central size × size pixels of (H, W, channels), with zeros where there are none.

    An odd difference leaves the extra pixel below and to the right, as fastai's ``CropPad``
    does, so that the network sees at explaining what it saw in training.
    """
    cutout = np.zeros((size, size, image.shape[2]), dtype=image.dtype)
    source, target = zip(*(_overlap(length, size) for length in image.shape[:2]), strict=True)
    cutout[target] = image[source]
    return cutout


def scale_cutout(cutout: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Scale a square cutout to size × size pixels, bilinearly, averaging when it shrinks."""
    if cutout.shape[0] == size:
        return cutout
    # Pillow has no image of (H, W, 1).
    image = Image.fromarray(cutout if cutout.shape[2] > 1 else cutout[..., 0])
    scaled = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return scaled.reshape(size, size, -1)


def load_cutouts(
    paths: Sequence[Path],
    cutout_size: int,
    image_size: int,
    decoding: Decoding = RGB,
    *,
    n_workers: int | None = None,
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode, crop and scale every file once, for a network that looks at them many times.

    Parameters
    ----------
    paths : sequence of Path
        Image files, (N,).
    cutout_size, image_size : int
        Side of the central crop, and what it is scaled to [pixels].
    decoding : Decoding, default RGB
        How pixels are read.
    n_workers : int, optional
        Threads; default one a processor.

    Returns
    -------
    cutouts : (N, image_size, image_size, n_channels) ndarray of uint8
        In memory, or where that would take more than a quarter of it, in a temporary file that is
        gone with the process. Zero where a file cannot be decoded.
    reasons : dict of int to str
        Why, by position.

    Raises
    ------
    OutputError
        No room for the temporary file.
    LostCutoutError
        A file that is missing, or a file system that no longer answers.
    """
    shape = (len(paths), image_size, image_size, decoding.n_channels)
    cutouts = _allocate(shape)
    reasons: dict[int, str] = {}
    decoded = iter_cutouts(paths, cutout_size, decoding, n_workers=n_workers)
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
    if n_bytes <= _physical_memory() * MEMORY_SHARE:
        return np.zeros(shape, np.uint8)
    try:
        with tempfile.TemporaryFile() as file:
            # A hole that the disk cannot fill would kill the process at the first write to it.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as exc:
        raise OutputError(
            f"{tempfile.gettempdir()}: no room for {n_bytes / 1e9:.1f} GB of decoded images "
            f"({exc.strerror}); set TMPDIR to a folder with more space"
        ) from exc


def _physical_memory() -> int:
    """Return the size of the machine's memory [byte]."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def iter_cutouts(
    paths: Iterable[Path], size: int, decoding: Decoding = RGB, *, n_workers: int | None = None
) -> Iterator[NDArray[np.uint8] | CutoutError]:
    """Decode files in threads, a few ahead of what is asked for.

    Parameters
    ----------
    paths : iterable of Path
        Image files.
    size : int
        Side of the cutouts [pixels].
    decoding : Decoding, default RGB
        How pixels are read.
    n_workers : int, optional
        Threads; default one a processor.

    Yields
    ------
    (size, size, n_channels) ndarray of uint8, or CutoutError
        In the order of the paths; the error, unraised, where a file cannot be decoded.

    Raises
    ------
    LostCutoutError
        A file that is missing, or a file system that no longer answers.
    """

    def read(path: Path) -> NDArray[np.uint8] | CutoutError:
        try:
            return read_cutout(path, size, decoding)
        except CutoutError as exc:
            return exc

    n_workers = n_workers or os.cpu_count() or 1
    with ThreadPoolExecutor(n_workers) as pool:
        yield from map_ahead(pool, read, paths, n_ahead=N_AHEAD * n_workers)


def _overlap(length: int, size: int) -> tuple[slice, slice]:
    """Return the slices of an axis and of the cutout that hold the same pixels."""
    offset = (length - size) // 2
    start, stop = max(offset, 0), min(offset + size, length)
    return slice(start, stop), slice(start - offset, stop - offset)
