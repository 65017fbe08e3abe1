"""Arrays: images that are elements of one array, read in place, one at a time.

Nothing of a file is unpickled or followed out of it, and no filter of HDF5 is used that would be
loaded as code.
"""

import io
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from galfig.config import MAX_CHANNELS
from galfig.errors import CatalogError
from galfig.images import parquet
from galfig.images.decoders import UnusableError
from galfig.images.stretch import BY_SKY, Stretch, stretch_image
from galfig.runtime.inputs import open_regular
from galfig.runtime.messages import one_line, quote, shorten

NPY_MAGIC = b"\x93NUMPY"
# Longest header of a file in numpy's format [byte], and the largest element [values].
MAX_HEADER, MAX_VALUES = 10_000, 1 << 26
# The smallest side of an image [pixels].
MIN_SIDE = 8
# Suffixes of files of HDF5, and of all files that may hold an array of images.
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
ARRAY_SUFFIXES = (*HDF5_SUFFIXES, *parquet.SUFFIXES, ".npy")
# Filters of HDF5 that are part of it: deflate, shuffle, checksum, scale-offset, and h5py's LZF.
_FILTERS = {1, 2, 3, 6, 32000}
# Largest chunk that is unpacked for one image [byte], and the memory that keeps some of them.
MAX_CHUNK, CACHE = 1 << 28, 1 << 26
# h5py's own lock is not held between finding an array and reading it.
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Element:
    """An image that is an element of an array.

    Attributes
    ----------
    path : Path
        File that holds the array.
    array : str
        Name of the array within the file; "" for a file of numpy's, which holds one.
    row : int
        Position along the first axis.
    """

    path: Path
    array: str
    row: int

    @property
    def name(self) -> str:
        """Name of the file, array and position, without folders."""
        return f"{self.path.name}:{self.array}[{self.row}]"

    def __str__(self) -> str:
        return f"{self.path}:{self.array}[{self.row}]"


def is_array(data: bytes) -> bool:
    """Return whether bytes begin like a file of numpy's."""
    return data.startswith(NPY_MAGIC)


def measure_array(data: bytes) -> tuple[int, int]:
    """Return the height and width [pixels] that the header of an image in numpy's format states.

    Raises
    ------
    ValueError
        If the file holds no image.
    """
    sides = [side for side in _read_header(io.BytesIO(data))[0] if side > MAX_CHANNELS]
    if len(sides) != 2:
        raise UnusableError(f"an array with sides of {sides}, expected an image")
    return sides[0], sides[1]


def decode_array(data: bytes, stretch: Stretch = BY_SKY) -> NDArray[np.uint8]:
    """Decode an image in numpy's format; numbers other than bytes are stretched like fluxes.

    Parameters
    ----------
    data : bytes
        The file: (H, W), (H, W, B) or (B, H, W), rows from the top; colours are red, green, blue.
    stretch : Stretch, default `BY_SKY`
        How fluxes become pixels.

    Returns
    -------
    (H, W) or (H, W, B) ndarray of uint8

    Raises
    ------
    ValueError
        If the file holds no image, or is damaged.
    """
    stream = io.BytesIO(data)
    shape, dtype = _read_header(stream)
    if stream.tell() + math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError("an array that is truncated, or followed by other bytes")
    values = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape)
    values = values.reshape([side for side in shape if side != 1] if len(shape) > 2 else shape)
    if values.ndim == 3 and values.shape[2] > MAX_CHANNELS >= values.shape[0]:
        values = np.moveaxis(values, 0, -1)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] > MAX_CHANNELS):
        raise UnusableError(f"an array of {shape}, expected an image of few channels")
    if values.dtype == np.uint8:
        return values
    planes = values if values.ndim == 2 else np.moveaxis(values, -1, 0)
    return stretch_image(planes.astype(np.float64), stretch)


def read_element(element: Element, max_bytes: int) -> bytes:
    """Read an element of an array as a file in numpy's format.

    Parameters
    ----------
    element : Element
        The element.
    max_bytes : int
        Size of the largest element that is read [byte].

    Returns
    -------
    bytes

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the array is no longer there, or no longer has the element.
    """
    with open_regular(element.path) as file:
        if element.path.suffix.lower() == ".npy":
            values = _read_row(file, element.row, max_bytes)
        else:
            stat = os.fstat(file.fileno())
            stamp = (stat.st_mtime_ns, stat.st_size)
            if element.path.suffix.lower() in parquet.SUFFIXES:
                found = parquet.read_cell(element.path, element.array, element.row, stamp)
                if isinstance(found, bytes):
                    # An image file, which needs no other form.
                    return found
                values = found
            else:
                values = _read_hdf5_row(element, stamp, max_bytes)
    stream = io.BytesIO()
    npy.write_array(stream, np.ascontiguousarray(values), allow_pickle=False)
    return stream.getvalue()


def describe_arrays(path: Path) -> dict[str, tuple[int, ...]]:
    """List the arrays of a file that may hold images.

    Parameters
    ----------
    path : Path
        A file of numpy's, of HDF5 or of Parquet.

    Returns
    -------
    dict of str to tuple of int
        Shape (N, H, W), (N, H, W, B) or (N, B, H, W) of each array of numbers, by name; (N,) of a
        column of Parquet. The name in a file of numpy's is "".

    Raises
    ------
    CatalogError
        If the file cannot be read.
    """
    try:
        if path.suffix.lower() == ".npy":
            with open_regular(path) as file:
                return {"": _read_header(file)[0]}
        if path.suffix.lower() in parquet.SUFFIXES:
            columns, n_rows = parquet.list_image_columns(path)
            # Their sides are known once they are read.
            return {name: (n_rows,) for name in columns}
        arrays = _open_hdf5(path)
        shapes = {name: tuple(map(int, one.shape)) for name, one in arrays.items()}
    except (OSError, ValueError) as exc:
        raise CatalogError(f"{path}: cannot be read ({one_line(exc)})") from exc
    return {name: shape for name, shape in shapes.items() if _is_image(shape)}


def read_columns(path: Path, n_rows: int) -> dict[str, NDArray[Any]]:
    """Read the arrays of one axis of an HDF5 file.

    Parameters
    ----------
    path : Path
        The file.
    n_rows : int
        Length of the arrays; others are no columns.

    Returns
    -------
    dict of str to (n_rows,) ndarray
        Numbers, or texts as bytes, by name.
    """
    with _LOCK:
        return {name: one[()] for name, one in _open_hdf5(path).items() if one.shape == (n_rows,)}


def choose_array(path: Path, name: str | None) -> tuple[str, int]:
    """Choose the array of a file that holds the images.

    Parameters
    ----------
    path : Path
        The file.
    name : str or None
        Name of the array; None for the only one that may hold images.

    Returns
    -------
    name : str
        Its name.
    n_images : int
        Number of images N.

    Raises
    ------
    CatalogError
        If there is no such array, or several to choose from.
    """
    arrays = describe_arrays(path)
    there = shorten([f"{key} {shape}" for key, shape in arrays.items()])
    if name is None and len(arrays) == 1:
        name = next(iter(arrays))
    if name is None or name not in arrays:
        wanted = "one array of images" if name is None else f"array {quote(name)} of images"
        advice = "; set [catalog] array" if arrays else ""
        raise CatalogError(f"{path}: expected {wanted}, found {there or 'none'}{advice}")
    return name, arrays[name][0]


def _is_image(shape: tuple[int, ...]) -> bool:
    """Return whether the elements of an array of a shape may be images."""
    sides = sorted(side for side in shape[1:] if side != 1)
    # A galaxy is no smaller; such arrays are spectra or matrices.
    return (
        len(sides) in (2, 3)
        and sides[-2] >= MIN_SIDE
        and (len(sides) == 2 or sides[0] <= MAX_CHANNELS)
    )


def _read_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of a file of numpy's; raise ValueError unless it is an array of numbers."""
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(file, max_header_size=MAX_HEADER)
    except Exception as exc:
        # The header is the text of a dict, which can fail in any way.
        raise ValueError(f"no header of numpy's ({one_line(exc)})") from exc
    if dtype.kind not in "iufb" or dtype.hasobject:
        raise UnusableError(f"an array of {dtype}, expected numbers")
    if is_fortran and len(shape) > 1:
        raise UnusableError("an array in the order of Fortran, expected that of C; save it again")
    return shape, dtype


def _read_row(file: BinaryIO, row: int, max_bytes: int) -> NDArray[Any]:
    shape, dtype = _read_header(file)
    n_bytes = math.prod(shape[1:]) * dtype.itemsize
    if not 0 <= row < shape[0] or n_bytes > max_bytes:
        raise UnusableError(f"an array of {shape}, expected an image number {row}")
    file.seek(n_bytes * row, os.SEEK_CUR)
    data = b""
    while len(data) < n_bytes and (chunk := file.read(n_bytes - len(data))):
        data += chunk
    if len(data) < n_bytes:
        raise ValueError("an array that is truncated")
    return np.frombuffer(data, dtype).reshape(shape[1:])


def _read_hdf5_row(element: Element, stamp: tuple[int, int], max_bytes: int) -> NDArray[Any]:
    with _LOCK:
        array = _keep_open(element.path, stamp).get(element.array)
        if array is None or not 0 <= element.row < array.shape[0]:
            raise UnusableError("no such element, expected the one that was listed")
        if math.prod(array.shape[1:]) * array.dtype.itemsize > max_bytes:
            raise UnusableError(f"an array of {array.shape}, expected smaller images")
        try:
            return np.asarray(array[element.row])
        except (OSError, RuntimeError) as exc:
            if getattr(exc, "errno", None):
                raise
            raise ValueError(f"cannot be decoded ({one_line(exc)})") from exc


@lru_cache(maxsize=2)
def _keep_open(path: Path, stamp: tuple[int, int]) -> Mapping[str, Any]:
    """Open a file once for all its elements; ``stamp`` tells it from another of its name."""
    return _open_hdf5(path)


def _open_hdf5(path: Path) -> Mapping[str, Any]:
    """Open a file of HDF5 and return its arrays of numbers or texts that are safe to read."""
    import h5py

    # HDF5 itself would wait for a named pipe.
    open_regular(path).close()
    try:
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=CACHE)
        found: dict[str, Any] = {}
        _add_arrays(file, "", found, 0)
    except (OSError, RuntimeError, KeyError, ValueError) as exc:
        if getattr(exc, "errno", None):
            raise
        raise ValueError(f"not an HDF5 file, or damaged: {one_line(exc)}") from exc
    return found


def _add_arrays(group: Any, prefix: str, found: dict[str, Any], depth: int) -> None:
    """Add the arrays of a group, and of groups in it, without following a link."""
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink) or len(found) > 10_000:
            continue
        item = group[name]
        if isinstance(item, h5py.Dataset):
            if _is_safe(item):
                found[f"{prefix}{name}"] = item
        elif isinstance(item, h5py.Group) and depth < 3:
            _add_arrays(item, f"{prefix}{name}/", found, depth + 1)


def _is_safe(array: Any) -> bool:
    """Return whether an array lies in the file itself, and needs no code to be read."""
    if array.shape is None or not array.shape or array.is_virtual or array.external:
        return False
    if array.dtype.kind not in "iufbS":
        return False
    layout = array.id.get_create_plist()
    filters = {layout.get_filter(index)[0] for index in range(layout.get_nfilters())}
    n_bytes = math.prod(array.chunks or (0,)) * array.dtype.itemsize
    return filters <= _FILTERS and n_bytes <= MAX_CHUNK
