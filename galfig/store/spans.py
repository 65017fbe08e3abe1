"""Spans: how a dataset of a virtual store is laid out over the parts of the store.

HDF5 can make one dataset of those of many files. A store of galfig may do so with its maps and
cutouts, in one form only: the store ``maps.h5`` names the files ``maps.h5.parts/000000.h5`` and so
on, of which each holds the rows that follow those of the file before.
"""

import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import h5py
import numpy as np

from galfig.errors import StoreError
from galfig.runtime.messages import one_line, quote
from galfig.store.headers import read_sources

# The dataset with the seal of each part, which all virtual stores have and no others.
SEALS = "part_seal"
PARTS_SUFFIX = ".parts"
# What a hyperslab of HDF5 is written as before its corners: kind, version, nothing, length of the
# rest, number of axes and of blocks; and how all of a dataset is written.
_SLAB = struct.Struct("<IIIIII")
_ALL = struct.pack("<IIII", 3, 1, 0, 0)
_SOURCE = re.compile(r"(?P<store>[^/]+)\.parts/(?P<part>\d{6,9}\.h5)")


class Span(NamedTuple):
    """The rows of a store that a part holds, all of its own.

    Attributes
    ----------
    part : str
        Name of the file in the folder of the parts.
    start, stop : int
        The first row of the store, and that after the last one.
    """

    part: str
    start: int
    stop: int


def resolve_store(path: Path) -> Path:
    """Return the absolute name of a store, without links: its parts are beside that."""
    return Path(os.path.realpath(path))


def is_virtual_dataset(item: Any) -> bool:
    """Return whether a member of a file is a dataset whose data HDF5 takes from other files."""
    return isinstance(item, h5py.Dataset) and bool(item.is_virtual)


def write_spans(
    file: h5py.File, name: str, parts: Sequence[tuple[Path, int]], row: tuple[int, ...], dtype: Any
) -> h5py.Dataset:
    """Write a dataset whose rows are in parts.

    Parameters
    ----------
    file : h5py.File
        The store, open for writing.
    name : str
        Name of the dataset, here and in the parts.
    parts : sequence of (Path, int)
        Each file and its number of rows, in the order of the store. The folder of the files must
        be beside the store.
    row : tuple of int
        Shape of one row.
    dtype : dtype
        Type of the numbers.

    Returns
    -------
    h5py.Dataset
    """
    layout = h5py.VirtualLayout((sum(n for _, n in parts), *row), dtype)
    start = 0
    for part, n_rows in parts:
        # HDF5 fills in numbers after a percent sign.
        source = f"{part.parent.name}/{part.name}".replace("%", "%%")
        layout[start : start + n_rows] = h5py.VirtualSource(source, name, (n_rows, *row))
        start += n_rows
    # What other programs read where a part is missing.
    fill = np.nan if np.dtype(dtype).kind == "f" else 0
    return file.create_virtual_dataset(name, layout, fillvalue=fill)


def read_sources_of(group: h5py.h5g.GroupID, name: bytes, path: Path) -> "list[Source] | None":
    """Read the sources of a virtual dataset, without opening it or any of them.

    Parameters
    ----------
    group : h5py.h5g.GroupID
        The group that the dataset is in.
    name : bytes
        Its name there.
    path : Path
        The file, for messages.

    Returns
    -------
    list of Source or None
        None if the member is no virtual dataset, as far as can be told.

    Raises
    ------
    StoreError
        If it is virtual, and HDF5 could not be left to read its sources.
    """
    file = h5py.h5i.get_file_id(group)
    # To ask for the object itself would be to open it.
    address = group.links.get_info(name).u
    offset = file.get_create_plist().get_userblock()
    try:
        block = read_sources(file.get_vfd_handle(), address + offset)
        return None if block is None else list(_parse_sources(block))
    except (ValueError, IndexError) as exc:
        words = quote(name.decode("utf-8", "replace"))
        _refuse(path, f"{words} is damaged, or virtual in an unknown way: {one_line(exc)}")


class Source(NamedTuple):
    """One of the sources of a virtual dataset.

    Attributes
    ----------
    file, dataset : str
        Where the numbers are.
    first, last : tuple of int
        The corners of the block of the virtual dataset that they fill.
    """

    file: str
    dataset: str
    first: tuple[int, ...]
    last: tuple[int, ...]


def _parse_sources(block: bytes) -> Iterator[Source]:
    """Yield the sources in a block; raise ValueError unless each fills one block with all it has.

    The form is that of the file format specification (version 3.0, section VIII, "virtual dataset
    storage block"), of which galfig uses a small part.
    """
    if block[0] != 0:
        raise ValueError("a list of sources of another version")
    n_sources, place = int.from_bytes(block[1:9], "little"), 9
    for _ in range(n_sources):
        end = block.index(b"\0", place)
        middle, end = end, block.index(b"\0", end + 1)
        names = block[place:middle], block[middle + 1 : end]
        place = end + 1 + len(_ALL)
        if block[end + 1 : place] != _ALL:
            raise ValueError("a source of which only some rows are used")
        kind, version, _, length, rank, n_blocks = _SLAB.unpack_from(block, place)
        place += _SLAB.size
        if (kind, version, n_blocks) != (2, 1, 1) or not 1 <= rank <= 32 or length != 8 + 8 * rank:
            raise ValueError("a source that fills anything but one block")
        corners = struct.unpack_from(f"<{2 * rank}I", block, place)
        place += 8 * rank
        if any(last < first for first, last in zip(corners[:rank], corners[rank:], strict=True)):
            raise ValueError("a source that fills nothing")
        # HDF5 fills in numbers after a percent sign, unless it is doubled.
        file, dataset = (name.decode("utf-8", "surrogateescape") for name in names)
        if "%" in file.replace("%%", ""):
            raise ValueError("a pattern of names of files")
        yield Source(file.replace("%%", "%"), dataset, corners[:rank], corners[rank:])
    # The checksum is left to HDF5.
    if len(block) != place + 4:
        raise ValueError("a list of sources of another length")


def read_spans(dataset: h5py.Dataset, name: str, path: Path) -> list[Span]:
    """Read where the rows of a virtual dataset are; neither they nor any other file are read.

    Parameters
    ----------
    dataset : h5py.Dataset
        The dataset, in the root of the store.
    name : str
        Its name, which must be that in the parts too.
    path : Path
        The store.

    Returns
    -------
    list of Span
        In the order of the rows, of which each is in one of them.

    Raises
    ------
    StoreError
        If the dataset is laid out in any way that `write_spans` does not choose: over files that
        are not the store's own parts, or with rows that are missing, doubled or out of order.
    """
    words, shape = quote(name), dataset.shape
    if len(shape) < 2 or h5py.check_string_dtype(dataset.dtype) is not None:
        _refuse(path, f"the data of {words} are in another file, expected only maps to be so")
    root = h5py.h5g.open(h5py.h5i.get_file_id(dataset.id), b"/")
    own, spans = resolve_store(path).name, []
    start, number = 0, -1
    for source in read_sources_of(root, name.encode(), path) or ():
        found = _SOURCE.fullmatch(source.file)
        if found is None or source.dataset != name:
            _refuse(path, f"{words} has a source that is not its own part: {quote(source.file)}")
        if found["store"] != own:
            was = found["store"]
            raise StoreError(
                f"{path}: is virtual, and was written under the name {quote(was, 255)} with its "
                f"maps in the folder {quote(was + PARTS_SUFFIX, 255)}; give both these names "
                f"again, or name the folder {quote(own + PARTS_SUFFIX, 255)} and merge the parts "
                "with `virtual=True`"
            )
        last, number = number, int(found["part"].removesuffix(".h5"))
        stop = source.last[0] + 1
        corner = (stop - 1, *(size - 1 for size in shape[1:]))
        if source.first != (start, *(0,) * len(shape[1:])) or source.last != corner:
            _refuse(path, f"{words} has its rows in another order, or not all of them once")
        if number <= last or stop > shape[0]:
            _refuse(path, f"{words} has its parts in another order, or more than its rows")
        spans.append(Span(found["part"], start, stop))
        start = stop
    if start != shape[0]:
        _refuse(path, f"{words} has {shape[0]} galaxies, and {start} of them in parts")
    return spans


def _refuse(path: Path, found: str) -> NoReturn:
    raise StoreError(f"{path}: {found}; not as galfig writes it, build it again")
