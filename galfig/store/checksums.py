"""Digests of everything in a store, used to detect damage and to say where it is.

Maps and cutouts are stored as chunks. Each chunk has a Fletcher-32 checksum, which HDF5 compares
on every read. The SHA-256 of a dataset, of its values or of the SHA-256 of its chunks, is an
attribute of it. The root attribute ``seal`` is the SHA-256 of all attributes, so that no change
goes undetected.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

from galfig.runtime.messages import CHECKSUM_MISMATCH, one_line
from galfig.runtime.progress import show_progress
from galfig.store.hdf5 import (
    READING_ERRORS,
    read_attribute,
    read_attributes,
    read_texts,
    set_attributes,
)
from galfig.store.texts import TextColumn

_SHA256, _SEAL = "sha256", "seal"
# Rows that are digested at once.
_BLOCK = 1 << 16


def seal_file(file: h5py.File) -> None:
    """Write the digests into a complete store.

    Parameters
    ----------
    file : h5py.File
        The store, open for writing. Nothing may be added to it afterwards. Its chunked datasets
        have their digests already, from `record_chunks`; those of virtual ones are in the parts,
        of which the store has the seals.
    """
    for _, dataset in _iter_datasets(file):
        if not dataset.chunks and not dataset.is_virtual:
            set_attributes(dataset, {_SHA256: _digest_values(dataset)})
    set_attributes(file, {_SEAL: _digest_attributes(file)})


def digest_chunk(mask: int, chunk: bytes) -> bytes:
    """Return the SHA-256 of a compressed chunk and of its mask of filters that were skipped."""
    return hashlib.sha256(mask.to_bytes(4, "big") + chunk).digest()


def record_chunks(dataset: h5py.Dataset, digests: bytes) -> None:
    """Record the digest of a chunked dataset.

    Parameters
    ----------
    dataset : h5py.Dataset
        The dataset, open for writing.
    digests : bytes
        What `digest_chunk` returns for each chunk, one after the other.
    """
    set_attributes(dataset, {_SHA256: digest_chunks(digests)})


def digest_chunks(digests: bytes) -> str:
    """Return the digest of a chunked dataset, from those of its chunks."""
    return hashlib.sha256(digests).hexdigest()


def read_chunk(dataset: h5py.Dataset, row: int) -> tuple[int, bytes]:
    """Read the mask of filters that were skipped for a galaxy, and its chunk as it is stored."""
    mask, chunk = dataset.id.read_direct_chunk((row, *(0,) * (dataset.ndim - 1)))
    return mask, chunk


def read_seal(file: h5py.File) -> Any:
    """Return what a file says is the digest of all its attributes; None if it has no seal."""
    return read_attribute(file, _SEAL) if _SEAL in file.attrs else None


def read_digests(file: h5py.File) -> dict[str, str] | None:
    """Return the recorded digest of each dataset, by name.

    Parameters
    ----------
    file : h5py.File
        A sealed file, open for reading.

    Returns
    -------
    dict of str to str, or None
        None if the attributes are not what was sealed.
    """
    if read_attributes(file).get(_SEAL) != _digest_attributes(file):
        return None
    return {
        name: str(read_attributes(dataset).get(_SHA256)) for name, dataset in _iter_datasets(file)
    }


def read_values(dataset: h5py.Dataset, digest: str) -> Any:
    """Read a dataset without chunks; None if its values do not have this digest."""
    if _digest_values(dataset) != digest:
        return None
    return read_texts(dataset) if h5py.check_string_dtype(dataset.dtype) else dataset[()]


def read_sound(file: h5py.File, name: str) -> Any:
    """Read a dataset without chunks; None if its values do not have the recorded digest."""
    return read_values(file[name], str(read_attributes(file[name]).get(_SHA256)))


def is_sound(file: h5py.File, name: str) -> bool:
    """Return whether a dataset without chunks has the recorded digest."""
    return _digest_values(file[name]) == str(read_attributes(file[name]).get(_SHA256))


def find_damage(
    file: h5py.File, find_invalid: Callable[[str, Any], str] = lambda name, values: ""
) -> Iterator[str]:
    """Compare a whole store with its digests, and yield a line for each mismatch.

    Parameters
    ----------
    file : h5py.File
        The store, open for reading. Every chunk is read. Virtual datasets are not; see
        `galfig.store.virtual.PartFiles.find_damage`.
    find_invalid : callable, optional
        Called with the name of each dataset and its values, text as a `TextColumn`, or those of
        one galaxy; returns what is wrong with them, or "".

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
        if dataset.is_virtual:
            continue
        if dataset.chunks:
            yield from _find_damaged_chunks(file, name, dataset, find_invalid)
            continue
        try:
            is_same = _digest_values(dataset) == read_attribute(dataset, _SHA256)
            is_text = h5py.check_string_dtype(dataset.dtype)
            invalid = find_invalid(name, TextColumn(dataset[()]) if is_text else dataset[()])
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
    digest, is_whole = hashlib.sha256(), True
    with show_progress(f"verifying {name}", n_chunks, "galaxies", leave=False) as advance:
        for row in range(n_chunks):
            try:
                invalid = find_invalid(name, dataset[row])
                digest.update(digest_chunk(*read_chunk(dataset, row)))
            except READING_ERRORS as exc:
                invalid, is_whole = f"cannot be read ({one_line(exc)})", False
            if invalid:
                yield f"{name}: galaxy {_read_objid(file, row)} (number {row + 1}): {invalid}"
            advance(1)
    # An older galfig recorded no digest of the chunks.
    recorded = read_attributes(dataset).get(_SHA256)
    if is_whole and recorded not in (None, digest.hexdigest()):
        yield f"{name}: {CHECKSUM_MISMATCH}"


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
    """Return the digest of the values, of which some are read at a time."""
    digest = hashlib.sha256()
    is_text = h5py.check_string_dtype(dataset.dtype)
    for start in range(0, dataset.shape[0], _BLOCK) if dataset.ndim else (None,):
        values = dataset[()] if start is None else dataset[start : start + _BLOCK]
        if is_text:
            # The length prefixes make the concatenation unambiguous.
            texts = values.ravel().tolist() if start is not None else [values]
            digest.update(b"".join(b"%d:%s" % (len(text), text) for text in texts))
        else:
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


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
