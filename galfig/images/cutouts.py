"""Cutouts: image files decoded, cropped to the centre and scaled to the input of the network."""

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
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

# Largest fraction of the memory that decoded images may fill; more than that goes to a file.
MEMORY_SHARE = 0.25
# Images decoded ahead, per thread.
N_AHEAD = 8
# A smaller image [pixels] is an icon, or the placeholder that a server sends for "no image".
MIN_SIDE = 8
# Largest file that is read [byte]: the largest FITS image that is decoded, in double precision.
MAX_BYTES = 8 * MAX_VALUES


@dataclass(frozen=True)
class Decoding:
    """How image files become pixels.

    Attributes
    ----------
    n_channels : int
        Channels of the pixels, whatever the file holds: 3 for RGB, 1 for one band. For one band,
        a colour image is reduced to its luminance (ITU-R 601-2).
    fits_range : (float, float) or None
        Values of FITS images shown as black and as white; see `galfig.images.fits.decode_fits`.
    """

    n_channels: int = 3
    fits_range: tuple[float, float] | None = None


RGB = Decoding()


def _ignore(path: Path, data: bytes) -> None:
    """Do nothing with the bytes of a file."""


def read_cutout(
    path: Path,
    size: int,
    decoding: Decoding = RGB,
    *,
    on_bytes: Callable[[Path, bytes], object] = _ignore,
) -> NDArray[np.uint8]:
    """Decode an image file and take its centre.

    Parameters
    ----------
    path : Path
        JPEG, PNG, TIFF, GIF, BMP, WebP or FITS file.
    size : int
        Side of the cutout [pixels].
    decoding : Decoding, default RGB
        How the file becomes pixels.
    on_bytes : callable, optional
        Called with the path and the bytes of the file before these are decoded.

    Returns
    -------
    (size, size, n_channels) ndarray of uint8
        (y, x), RGB last.

    Raises
    ------
    CutoutError
        If the file is truncated, is not an image, or holds an image that cannot be used.
    LostCutoutError
        If the file is missing, or the file system no longer responds.
    """
    return crop_or_pad(decode_image(path, decoding, on_bytes=on_bytes), size)


def decode_image(
    path: Path,
    decoding: Decoding = RGB,
    *,
    on_bytes: Callable[[Path, bytes], object] = _ignore,
) -> NDArray[np.uint8]:
    """Decode a whole image file.

    Parameters
    ----------
    path : Path
        JPEG, PNG, TIFF, GIF, BMP, WebP or FITS file.
    decoding : Decoding, default RGB
        How the file becomes pixels.
    on_bytes : callable, optional
        Called with the path and the bytes of the file before these are decoded.

    Returns
    -------
    (H, W, n_channels) ndarray of uint8
        (y, x), RGB last.

    Raises
    ------
    CutoutError
        If the file is truncated, is not an image, or holds an image that cannot be used.
    LostCutoutError
        If the file is missing, or the file system no longer responds.
    """
    path = Path(path)
    data = _read_file(path)
    on_bytes(path, data)
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
    """Read a file; distinguish a file that cannot be read from one that has disappeared."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.readall() if size <= MAX_BYTES else b""
    except IsADirectoryError as exc:
        raise CutoutError(f"{path}: a folder, expected an image") from exc
    except PermissionError as exc:
        # When the ticket of a network file system has expired, the folder is closed as well.
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
    """Make the error for a file that was there when its folder was listed."""
    return LostCutoutError(
        f"{path}: lost ({exc.strerror}), expected the image that was listed; when it is back, run "
        "this again (a training continues with `resume`), or remove the file to leave out its "
        "galaxy"
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
    # Pillow takes no array of shape (H, W, 1).
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
    on_bytes: Callable[[Path, bytes], object] = _ignore,
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode, crop and scale every file once, for a network that sees each image many times.

    Parameters
    ----------
    paths : sequence of Path
        N image files.
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
        If a file is missing, or the file system no longer responds.
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
    if n_bytes <= _physical_memory() * MEMORY_SHARE:
        return np.zeros(shape, np.uint8)
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


def _physical_memory() -> int:
    """Return the size of the machine's memory [byte]."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def iter_cutouts(
    paths: Iterable[Path],
    size: int,
    decoding: Decoding = RGB,
    *,
    n_workers: int | None = None,
    on_bytes: Callable[[Path, bytes], object] = _ignore,
) -> Iterator[NDArray[np.uint8] | CutoutError]:
    """Decode files in threads, some ahead of the consumer.

    Parameters
    ----------
    paths : iterable of Path
        Image files.
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
        If a file is missing, or the file system no longer responds.
    """

    def read(path: Path) -> NDArray[np.uint8] | CutoutError:
        try:
            return read_cutout(path, size, decoding, on_bytes=on_bytes)
        except CutoutError as exc:
            return exc

    n_workers = n_workers or os.cpu_count() or 1
    with ThreadPoolExecutor(n_workers) as pool:
        yield from map_ahead(pool, read, paths, n_ahead=N_AHEAD * n_workers)


def _overlap(length: int, size: int) -> tuple[slice, slice]:
    """Return the slices, along an axis, of the image and the cutout that hold the same pixels."""
    offset = (length - size) // 2
    start, stop = max(offset, 0), min(offset + size, length)
    return slice(start, stop), slice(start - offset, stop - offset)
