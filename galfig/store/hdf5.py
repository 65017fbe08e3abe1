"""HDF5 as galfig writes it: files without locks, text of a fixed length, plain attributes.

Text of variable length lies in a heap without a checksum, and a flipped bit there can keep HDF5
reading without end. Text of a fixed length lies with the other numbers.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

# Of HDF5 1.10 (2016): the first whose own structure carries checksums throughout.
FORMAT = ("v110", "v110")
# What h5py raises at a file whose structure is damaged.
READING_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    MemoryError,
)
# Of a column of text [byte]: one cell of a novel must not make all others as long.
MAX_FIXED = 1 << 28

# A file under its final name never changes, and one that is written has a name of its own: HDF5's
# lock would protect nothing, and fails on network file systems that have none.
open_hdf5 = partial(h5py.File, mode="r", locking=False)


@contextmanager
def create_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a new HDF5 file; where the disk refuses, raise the OSError that Python itself would."""
    try:
        with h5py.File(path, "w", libver=FORMAT, locking=False) as file:
            yield file
    except (OSError, RuntimeError) as exc:
        found = re.search(r"errno = (\d+)", str(exc))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number)) from exc


def encode_texts(texts: Sequence[str]) -> NDArray[Any]:
    """Return texts as an array that HDF5 holds as UTF-8, of a fixed length where that is short."""
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    length = max(map(len, encoded), default=0) or 1
    if length * len(encoded) > MAX_FIXED:
        return np.array(texts, dtype=h5py.string_dtype("utf-8"))
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", length))


def read_texts(dataset: h5py.Dataset, rows: int | slice = slice(None)) -> Any:
    """Return texts, (N,) array of str, or one of them."""
    return dataset.asstr(errors="surrogateescape")[rows]


def set_attributes(item: h5py.HLObject, attrs: Mapping[str, Any]) -> None:
    """Write attributes: text, numbers and bool."""
    for key, value in attrs.items():
        if isinstance(value, str):
            text = value.encode("utf-8", "surrogateescape") or b"\0"
            item.attrs.create(key, text, dtype=h5py.string_dtype("utf-8", len(text)))
        else:
            item.attrs[key] = value


def read_attributes(item: h5py.HLObject) -> dict[str, Any]:
    """Return attributes as plain values of Python."""
    return {key: _plain(value) for key, value in item.attrs.items()}


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
