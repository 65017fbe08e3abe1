"""Digests of everything in a store, used to detect damage and to say where it is.

Maps and cutouts are stored as chunks. Each chunk has a Fletcher-32 checksum, which HDF5 compares
on every read. Every other dataset carries its SHA-256 as an attribute. The root attribute ``seal``
is the SHA-256 of all attributes, so that no change goes undetected.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

from galfig.runtime.messages import CHECKSUM_MISMATCH, one_line
from galfig.store.hdf5 import (
    READING_ERRORS,
    read_attribute,
    read_attributes,
    read_texts,
    set_attributes,
)

_SHA256, _SEAL = "sha256", "seal"


def seal_file(file: h5py.File) -> None:
    """Write the digests into a complete store.

    Parameters
    ----------
    file : h5py.File
        The store, open for writing. Nothing may be added to it afterwards.
    """
    for _, dataset in _iter_datasets(file):
        if not dataset.chunks:
            set_attributes(dataset, {_SHA256: _digest_values(dataset)})
    set_attributes(file, {_SEAL: _digest_attributes(file)})


def find_damage(
    file: h5py.File, find_invalid: Callable[[str, Any], str] = lambda name, values: ""
) -> Iterator[str]:
    """Compare a whole store with its digests, and yield a line for each mismatch.

    Parameters
    ----------
    file : h5py.File
        The store, open for reading. Every chunk is read.
    find_invalid : callable, optional
        Called with the name of each dataset and its values, or those of one galaxy; returns what
        is wrong with them, or "".

    Yields
    ------
    str
        What is damaged, and where.
    """
    if _SEAL not in file.attrs:
        yield "no seal, expected one; it was built by an older galfig and cannot be verified"
        return
    try:
        # HDF5's own traversal also reads structures that a lookup by name skips.
        file.visit(lambda name: None)
    except READING_ERRORS as exc:
        yield f"the structure of the file: cannot be read ({one_line(exc)})"
    for name, dataset in _iter_datasets(file):
        if dataset.chunks:
            yield from _find_damaged_chunks(file, name, dataset, find_invalid)
            continue
        try:
            is_same = _digest_values(dataset) == read_attribute(dataset, _SHA256)
            is_text = h5py.check_string_dtype(dataset.dtype)
            invalid = find_invalid(name, read_texts(dataset) if is_text else dataset[()])
        except READING_ERRORS as exc:
            yield f"{name}: cannot be read ({one_line(exc)})"
            continue
        if not is_same:
            yield f"{name}: {CHECKSUM_MISMATCH}"
        if invalid:
            yield invalid
    if _digest_attributes(file) != read_attributes(file)[_SEAL]:
        yield f"attributes, or the list of datasets: {CHECKSUM_MISMATCH}"


def _find_damaged_chunks(
    file: h5py.File, name: str, dataset: h5py.Dataset, find_invalid: Callable[[str, Any], str]
) -> Iterator[str]:
    """Read every chunk (one galaxy each), so that HDF5 compares its checksum."""
    n_chunks = dataset.id.get_num_chunks()
    if n_chunks != dataset.shape[0]:
        yield f"{name}: {n_chunks} chunks of {dataset.shape[0]} galaxies"
        return
    for row in range(n_chunks):
        try:
            invalid = find_invalid(name, dataset[row])
        except READING_ERRORS as exc:
            invalid = f"cannot be read ({one_line(exc)})"
        if invalid:
            yield f"{name}: galaxy {_read_objid(file, row)} (number {row + 1}): {invalid}"


def _read_objid(file: h5py.File, row: int) -> str:
    try:
        return repr(read_texts(file["objid"], row))
    except READING_ERRORS:
        return "unknown"


def _iter_datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the path and the dataset for each dataset in the root and in its groups."""
    for name, item in file.items():
        if isinstance(item, h5py.Dataset):
            yield name, item
        else:
            for key, dataset in item.items():
                yield f"{name}/{key}", dataset


def _digest_values(dataset: h5py.Dataset) -> str:
    values = dataset[()]
    if h5py.check_string_dtype(dataset.dtype):
        # The length prefixes make the concatenation unambiguous.
        data = b"".join(b"%d:%s" % (len(text), text) for text in values)
    else:
        data = np.ascontiguousarray(values).tobytes()
    return hashlib.sha256(data).hexdigest()


def _digest_attributes(file: h5py.File) -> str:
    """Return the digest of all attributes, including the digests of the datasets."""
    root = read_attributes(file)
    described: dict[str, Any] = {"/": {key: root[key] for key in root if key != _SEAL}}
    for name, item in file.items():
        described[name] = read_attributes(item)
    for name, dataset in _iter_datasets(file):
        layout = [str(dataset.dtype), list(dataset.shape), list(dataset.chunks or ())]
        described[name] = [layout, read_attributes(dataset)]
    words = json.dumps(described, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()
