"""Spans: how a dataset of a virtual store is laid out over the parts of the store.

HDF5 can make one dataset of those of many files. A store of galfig may do so with its maps and
cutouts, in one form only: the store ``maps.h5`` names the files ``maps.h5.parts/000000.h5`` and so
on, of which each holds the rows that follow those of the file before.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import h5py
import numpy as np

from galfig.errors import StoreError
from galfig.runtime.messages import quote

# The dataset with the seal of each part, which all virtual stores have and no others.
SEALS = "part_seal"
PARTS_SUFFIX = ".parts"
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


def read_spans(dataset: h5py.Dataset, name: str, path: Path) -> list[Span]:
    """Read where the rows of a virtual dataset are; neither they nor any other file are read.

    Parameters
    ----------
    dataset : h5py.Dataset
        The dataset.
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
    plist = dataset.id.get_create_plist()
    n_spans = plist.get_virtual_count()
    if len(shape) < 2 or h5py.check_string_dtype(dataset.dtype) is not None:
        _refuse(path, f"the data of {words} are in another file, expected only maps to be so")
    if not 0 < n_spans <= shape[0]:
        _refuse(path, f"{words} has {n_spans} sources for {shape[0]} galaxies")
    own, spans = resolve_store(path).name, []
    start, last = 0, -1
    for index in range(n_spans):
        source = plist.get_virtual_filename(index).replace("%%", "%")
        found = _SOURCE.fullmatch(source)
        if found is None or plist.get_virtual_dsetname(index) != name:
            _refuse(path, f"{words} has a source that is not its own part: {quote(source)}")
        if found["store"] != own:
            was = found["store"]
            raise StoreError(
                f"{path}: is virtual, and was written under the name {quote(was, 255)} with its "
                f"maps in the folder {quote(was + PARTS_SUFFIX, 255)}; give both these names "
                f"again, or name the folder {quote(own + PARTS_SUFFIX, 255)} and run "
                f"'galfig merge {path} --virtual'"
            )
        stop = _read_stop(plist, index, start, shape)
        number = int(found["part"].removesuffix(".h5"))
        if stop is None or number <= last:
            _refuse(path, f"{words} has its rows in another order, or not all of them once")
        spans.append(Span(found["part"], start, stop))
        start, last = stop, number
    if start != shape[0]:
        _refuse(path, f"{words} has {shape[0]} galaxies, and {start} of them in parts")
    return spans


def _read_stop(
    plist: h5py.h5p.PropDCID, index: int, start: int, shape: tuple[int, ...]
) -> int | None:
    """Return the row after those of a source; None if they are not one piece from ``start`` on."""
    target, source = plist.get_virtual_vspace(index), plist.get_virtual_srcspace(index)
    kinds = (h5py.h5s.SEL_HYPERSLABS, h5py.h5s.SEL_ALL)
    if target.get_select_type() not in kinds or source.get_select_type() != h5py.h5s.SEL_ALL:
        return None
    if target.shape != shape:
        return None
    first, last = target.get_select_bounds()
    stop = int(last[0]) + 1
    n_numbers = int(np.prod([stop - start, *shape[1:]], dtype=object))
    is_block = tuple(first) == (start, *(0,) * (len(shape) - 1))
    is_block = is_block and tuple(last[1:]) == tuple(size - 1 for size in shape[1:])
    return stop if is_block and target.get_select_npoints() == n_numbers else None


def _refuse(path: Path, found: str) -> NoReturn:
    raise StoreError(f"{path}: {found}; not as galfig writes it, build it again")
