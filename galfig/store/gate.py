"""The gate: what an HDF5 file may contain before anything in it is read.

HDF5 can do more than hold arrays. A dataset may lie in another file, so that a store of a stranger
would show any file that its reader may read; a link may lead out of the file or in a circle; a
file of a few bytes may declare an array that fits in no memory. No file of galfig does any of this,
but for one: a virtual store has maps and cutouts in its own parts, and is read only where all is as
`galfig.store.spans` says.
"""

import os
from collections.abc import Collection, Iterator
from math import prod
from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np

from galfig.errors import StoreError
from galfig.runtime.messages import quote
from galfig.store.hdf5 import GROUPS
from galfig.store.spans import read_sources_of, read_spans

# More than any version of galfig writes into the root, and more columns than any catalog has.
MAX_ROOT, MAX_MEMBERS = 64, 100_000
# The filters of `galfig.store.chunks`. Others may be plugins, which HDF5 loads as code.
_FILTERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32)
# Deflate shrinks data at most by 1032:1 (zlib's technical details); the rest is for checksums.
MAX_RATIO = 1100
# How HDF5 stores a text of variable length: its length, and where it is.
_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])


def check_contents(
    file: h5py.File, path: Path, groups: Collection[str] = GROUPS, *, may_span: bool = False
) -> None:
    """Check that a file holds nothing but datasets that are in it and fit into it.

    The work is bounded: no array is read, and HDF5 only looks at the index of chunked datasets.
    Call this on the open file that is read afterwards, since a name may lead to another file.

    Parameters
    ----------
    file : h5py.File
        A store, a part or an audit, open for reading.
    path : Path
        Its name, for messages.
    groups : collection of str, optional
        The groups that it may have; by default, those of a store.
    may_span : bool, default False
        Whether datasets may be virtual, over parts of the file.

    Raises
    ------
    StoreError
        If a member is a soft or external link, a type or a group that no store has; if a dataset
        lies in other files, is virtual in another way than `galfig.store.spans` writes it, has
        another filter than galfig's, or holds anything but numbers and text; or if datasets declare
        more than the file can hold.
    """
    size = file.id.get_filesize()
    n_stored = 0
    for name, dataset in _iter_datasets(file, path, groups, may_span=may_span):
        if may_span and "/" not in name and dataset.is_virtual:
            # Each part passes this gate before it is read.
            _check_type(path, quote(name), dataset)
            read_spans(dataset, name, path)
            continue
        n_bytes = _check_dataset(file, path, name, dataset, size)
        n_stored += n_bytes
        if n_stored > size:
            # Datasets that overlap would be read over and over.
            _refuse(path, f"its datasets hold {n_stored} bytes, and the file has {size}")


def _iter_datasets(
    file: h5py.File, path: Path, groups: Collection[str], *, may_span: bool
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the datasets in the root and in its groups; refuse whatever else is there."""
    root = h5py.h5g.open(file.id, b"/")
    for name in _list_members(root, path, "/", MAX_ROOT):
        words = name.decode("utf-8", "replace")
        # Opening a virtual dataset has HDF5 read its sources, for which they must be sound.
        if read_sources_of(root, name, path) is not None and not may_span:
            _refuse_outside(path, quote(words))
        item = h5py.h5o.open(root, name)
        if isinstance(item, h5py.h5d.DatasetID):
            yield words, h5py.Dataset(item)
        elif not isinstance(item, h5py.h5g.GroupID) or words not in groups:
            kind = "group" if isinstance(item, h5py.h5g.GroupID) else "named type"
            _refuse(
                path, f"{kind} {quote(words)}, expected datasets and the groups {', '.join(groups)}"
            )
        else:
            for key in _list_members(item, path, words, MAX_MEMBERS):
                inner = f"{words}/{key.decode('utf-8', 'replace')}"
                if read_sources_of(item, key, path) is not None:
                    _refuse_outside(path, quote(inner))
                column = h5py.h5o.open(item, key)
                if not isinstance(column, h5py.h5d.DatasetID):
                    _refuse(path, f"{quote(inner)} is not a dataset")
                yield inner, h5py.Dataset(column)


def _list_members(group: h5py.h5g.GroupID, path: Path, name: str, n_most: int) -> Iterator[bytes]:
    """Yield the names in a group, all of them hard links, without following any."""
    n_members = group.get_num_objs()
    if n_members > n_most:
        _refuse(path, f"{n_members} members of {quote(name)}, expected at most {n_most}")
    for key in group:
        if group.links.get_info(key).type != h5py.h5l.TYPE_HARD:
            _refuse(
                path,
                f"{quote(key.decode('utf-8', 'replace'))} in {quote(name)} is a link to another "
                "place or file, expected the data themselves",
            )
        yield key


def _check_dataset(file: h5py.File, path: Path, name: str, dataset: h5py.Dataset, size: int) -> int:
    """Check how a dataset is stored; return how much of the file it takes [byte]."""
    layout = dataset.id.get_create_plist()
    kind = layout.get_layout()
    words = quote(name)
    if kind == h5py.h5d.VIRTUAL or layout.get_external_count():
        _refuse_outside(path, words)
    _check_type(path, words, dataset)
    text = h5py.check_string_dtype(dataset.dtype)
    is_variable = text is not None and text.length is None
    item_size = _REFERENCE.itemsize if is_variable else dataset.id.get_type().get_size()
    n_declared = prod(dataset.shape) * item_size
    n_stored = int(dataset.id.get_storage_size())
    if kind == h5py.h5d.CHUNKED:
        _check_chunks(path, words, dataset, layout)
        ratio = MAX_RATIO
    else:
        ratio = 1
    if n_stored > size or n_declared > ratio * n_stored:
        _refuse(path, f"{words} declares {prod(dataset.shape)} numbers, and holds fewer")
    if is_variable:
        return n_stored + _measure_texts(file, path, words, dataset, size)
    return n_stored


def _check_type(path: Path, words: str, dataset: h5py.Dataset) -> None:
    """Check that a dataset is an array of numbers or text."""
    if dataset.shape is None:
        _refuse(path, f"{words} is empty, expected an array")
    dtype = dataset.dtype
    is_text = h5py.check_string_dtype(dtype) is not None
    if not is_text and (dtype.kind not in "iufb" or h5py.check_dtype(ref=dtype) is not None):
        _refuse(path, f"{words} holds {quote(str(dtype))}, expected numbers or text")


def _check_chunks(path: Path, words: str, dataset: h5py.Dataset, layout: h5py.h5p.PropDCID) -> None:
    """Check that each chunk is a row, compressed by filters that galfig uses, each of them once."""
    if h5py.check_string_dtype(dataset.dtype) is not None or dataset.ndim < 2:
        _refuse(path, f"{words} is in chunks, expected one piece")
    if dataset.chunks != (1, *dataset.shape[1:]):
        _refuse(path, f"{words} has chunks of {dataset.chunks}, expected one galaxy in each")
    found = [layout.get_filter(index)[0] for index in range(layout.get_nfilters())]
    if len(set(found)) < len(found) or not set(found) <= set(_FILTERS):
        _refuse(path, f"{words} has the filters {found}, expected some of {list(_FILTERS)}")


def _measure_texts(
    file: h5py.File, path: Path, words: str, dataset: h5py.Dataset, size: int
) -> int:
    """Return the length of all texts of variable length [byte], without reading any.

    The dataset holds a reference to each text. Many references to one long text would expand to
    more than any memory holds.
    """
    offset = dataset.id.get_offset()
    n_bytes = prod(dataset.shape) * _REFERENCE.itemsize
    if not n_bytes:
        return 0
    if offset is None or dataset.id.get_storage_size() != n_bytes:
        _refuse(path, f"{words} has texts of variable length in another form than galfig's")
    handle = file.id.get_vfd_handle()
    data = os.pread(handle, min(n_bytes, size), offset)
    lengths = np.frombuffer(data[: len(data) // 16 * 16], _REFERENCE)["length"]
    return int(lengths.sum(dtype=np.uint64))


def _refuse_outside(path: Path, words: str) -> NoReturn:
    _refuse(path, f"the data of {words} are in another file, expected all in this one")


def _refuse(path: Path, found: str) -> NoReturn:
    raise StoreError(f"{path}: {found}; not as galfig writes it, build it again")
