"""HDF5 as galfig writes it: no file locks, fixed-length text, plain attributes.

HDF5 keeps variable-length text in a heap without a checksum, where one flipped bit can send a
reader into an endless loop. It stores fixed-length text with the data of the dataset.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.errors import GalfigError
from galfig.runtime.inputs import open_regular
from galfig.runtime.messages import quote

# The format of HDF5 1.10 (2016) is the first with checksums on all of its own structures.
FORMAT = ("v110", "v110")
# Exceptions that h5py raises when the structure of a file is damaged.
READING_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    MemoryError,
)
# Largest text column with fixed length [byte]. One very long cell would pad all others.
MAX_FIXED = 1 << 28
# The groups in the root of a store or a part.
GROUPS = ("catalog", "rejected")
# More attributes than any object of a store has, and the longest [byte]: the names of columns.
MAX_ATTRIBUTES, MAX_ATTRIBUTE = 64, 1 << 26


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    A file never changes once it has its final name, and a file being written has a temporary name.
    HDF5's lock would therefore protect nothing, and it fails on network file systems without locks.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    h5py.File
        The file, open for reading.

    Raises
    ------
    OSError
        If it is no regular file or cannot be opened. HDF5 itself would wait for a named pipe.
    """
    open_regular(path).close()
    return h5py.File(path, mode="r", locking=False)


@contextmanager
def create_hdf5(path: Path | BinaryIO) -> Iterator[h5py.File]:
    """Create an HDF5 file.

    Parameters
    ----------
    path : Path or binary file
        The file to write; an existing file is replaced.

    Yields
    ------
    h5py.File
        The new file, open for writing.

    Raises
    ------
    OSError
        If the disk refuses the data, with the ``errno`` that h5py hides in its message.
    """
    try:
        with h5py.File(path, "w", libver=FORMAT, locking=False) as file:
            yield file
    except GalfigError:
        # About another file, and said already.
        raise
    except (OSError, RuntimeError) as exc:
        found = re.search(r"errno = (\d+)", str(exc))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number)) from exc


def encode_texts(texts: Sequence[str]) -> NDArray[Any]:
    """Encode texts as UTF-8 for HDF5.

    Parameters
    ----------
    texts : sequence of str
        N texts.

    Returns
    -------
    (N,) ndarray
        Fixed-length bytes, or variable-length text if the column would exceed `MAX_FIXED`.
    """
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    length = max(map(len, encoded), default=0) or 1
    if length * len(encoded) > MAX_FIXED:
        return np.array(texts, dtype=h5py.string_dtype("utf-8"))
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", length))


def read_texts(dataset: h5py.Dataset, rows: int | slice = slice(None)) -> Any:
    """Read a text dataset: an (N,) array of str, or one str if ``rows`` is an int."""
    return dataset.asstr(errors="surrogateescape")[rows]


def set_attributes(item: h5py.HLObject, attrs: Mapping[str, Any]) -> None:
    """Write attributes, whose values are str, int, float or bool."""
    for key, value in attrs.items():
        if isinstance(value, str):
            text = value.encode("utf-8", "surrogateescape") or b"\0"
            item.attrs.create(key, text, dtype=h5py.string_dtype("utf-8", len(text)))
        else:
            item.attrs[key] = value


def read_attributes(item: h5py.HLObject) -> dict[str, Any]:
    """Read all attributes as plain Python values.

    Parameters
    ----------
    item : h5py.HLObject
        A file, a group or a dataset.

    Returns
    -------
    dict of str to Any
        The values by name. Whoever uses one checks its type.

    Raises
    ------
    ValueError
        If there are more attributes, or longer ones, than galfig writes; nothing was read then.
    """
    n_attributes = h5py.h5a.get_num_attrs(item.id)
    if n_attributes > MAX_ATTRIBUTES:
        raise ValueError(f"{n_attributes} attributes, expected at most {MAX_ATTRIBUTES}")
    return {key: read_attribute(item, key) for key in item.attrs}


def read_attribute(item: h5py.HLObject, key: str) -> Any:
    """Read one attribute as a plain Python value; raise ValueError or KeyError if that fails."""
    found = item.attrs.get_id(key)
    n_elements = prod(found.shape)
    is_text = found.get_type().get_class() == h5py.h5t.STRING
    if n_elements * found.get_type().get_size() > MAX_ATTRIBUTE or (n_elements > 1 and is_text):
        raise ValueError(f"attribute {quote(key)} of shape {found.shape}, expected a short value")
    return _plain(item.attrs[key])


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
