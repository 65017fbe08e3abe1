"""HDF5: the tables of a file, which is read only if its data are all in it and can be bounded."""

import io
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from galfig.catalog.limits import check_size
from galfig.errors import CatalogError
from galfig.runtime.messages import quote

if TYPE_CHECKING:
    from astropy.table import Table

# Groups and datasets that are looked at, and how deep they may lie.
_MAX_ITEMS, _MAX_DEPTH = 10_000, 8
# Filters that come with HDF5 and h5py. Others are plugins, which HDF5 would load as code.
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_SZIP,
    h5py.h5z.FILTER_NBIT,
    h5py.h5z.FILTER_SCALEOFFSET,
    h5py.h5z.FILTER_LZF,
}
# Rows that are read at a time where their size is not known before.
_N_ROWS = 4096


def open_tables(data: bytes, path: Path) -> tuple[h5py.File, dict[str, list[str]]]:
    """Open a file, and find the tables in it.

    A table is a dataset of named columns, as astropy and PyTables write it, or a group with two or
    more datasets of equal length, one for each column. Links to other places are passed over.

    Parameters
    ----------
    data : bytes
        The file.
    path : Path
        Its path, for messages.

    Returns
    -------
    file : h5py.File
        The open file; the caller closes it.
    tables : dict of str to list of str
        The columns of each table, by the path of the table in the file; "/" is the root.

    Raises
    ------
    CatalogError
        If the file holds too many objects, or tables that pandas pickled.
    """
    file = h5py.File(io.BytesIO(data), "r")
    tables: dict[str, list[str]] = {}
    for name, group in _iter_groups(file, path):
        columns: dict[str, int] = {}
        for key, item in _iter_members(group):
            if not isinstance(item, h5py.Dataset) or not item.shape:
                continue
            if item.dtype.names is not None and item.ndim == 1:
                tables[f"{name}/{key}".strip("/")] = list(item.dtype.names)
            else:
                columns[key] = item.shape[0]
        lengths = set(columns.values())
        if "pandas_type" in group.attrs:
            raise CatalogError(
                f"{path}: {quote(name or '/')} was written by to_hdf of pandas, which pickles "
                "parts of it, expected plain tables; write it with to_parquet or to_csv"
            )
        if len(columns) > 1 and len(lengths) == 1:
            tables[name or "/"] = list(columns)
    return file, tables


def read_table(file: h5py.File, name: str, path: Path) -> "Table":
    """Read one of the tables that `open_tables` found.

    Parameters
    ----------
    file : h5py.File
        The open file.
    name : str
        Path of the table in the file.
    path : Path
        Path of the file, for messages.

    Returns
    -------
    astropy.table.Table
        Columns of one and two dimensions; the others are left out.

    Raises
    ------
    CatalogError
        If data lie in other files, are packed by a filter that is not HDF5's own, or are too large.
    """
    from astropy.table import Table

    item = file[name]
    if isinstance(item, h5py.Dataset):
        _check_dataset(item, path)
        if not _is_variable(item.dtype):
            # astropy restores the masks and the types that it has recorded beside a table.
            _check_meta(file, name, path)
            return Table.read(file, format="hdf5", path=name)
        rows = _read(item, path)
        return Table({key: rows[key] for key in rows.dtype.names})
    table = Table()
    for key, dataset in _iter_members(item):
        if isinstance(dataset, h5py.Dataset) and 1 <= dataset.ndim <= 2:
            _check_dataset(dataset, path)
            table[key] = _read(dataset, path)
    return table


def _iter_groups(file: h5py.File, path: Path) -> Iterator[tuple[str, h5py.Group]]:
    """Give every group with its path, without following links."""
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    n_items = 0
    while waiting:
        name, group = waiting.pop(0)
        n_items += len(group)
        if n_items > _MAX_ITEMS or name.count("/") >= _MAX_DEPTH:
            raise CatalogError(
                f"{path}: more than {_MAX_ITEMS} datasets, or groups deeper than {_MAX_DEPTH}, "
                "expected tables"
            )
        yield name, group
        waiting += [
            (f"{name}/{key}".strip("/"), item)
            for key, item in _iter_members(group)
            if isinstance(item, h5py.Group)
        ]


def _iter_members(group: h5py.Group) -> Iterator[tuple[str, Any]]:
    """Give what is in a group; links to other places and files are not followed."""
    for key in group:
        if isinstance(group.get(key, getlink=True), h5py.HardLink):
            yield key, group[key]


def _check_meta(file: h5py.File, name: str, path: Path) -> None:
    """Raise CatalogError if what astropy has recorded beside a table lies elsewhere."""
    beside = f"{name}.__table_column_meta__"
    link = file.get(beside, getlink=True) if beside in file else None
    if link is not None and not isinstance(link, h5py.HardLink):
        raise CatalogError(f"{path}: {quote(beside)} lies elsewhere, expected all data in this one")
    if link is not None:
        _check_dataset(file[beside], path)


def _check_dataset(dataset: h5py.Dataset, path: Path) -> None:
    """Raise CatalogError if a dataset lies elsewhere, needs a plugin, or is too large."""
    layout = dataset.id.get_create_plist()
    where = f"{path}: {quote(dataset.name)}"
    if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
        raise CatalogError(f"{where} lies in another file, expected all data in this one")
    found = {layout.get_filter(index)[0] for index in range(layout.get_nfilters())}
    if not found <= _FILTERS:
        raise CatalogError(
            f"{where} is packed by filter {min(found - _FILTERS)}, which is no part of HDF5, "
            "expected gzip; write it again without"
        )
    check_size(prod(dataset.shape) * dataset.dtype.itemsize, path, "unpacked")


def _is_variable(dtype: np.dtype[Any]) -> bool:
    """Return whether cells refer to texts or arrays of any length."""
    kinds = [dtype[name] for name in dtype.names] if dtype.names else [dtype]
    return any(kind.hasobject for kind in kinds)


def _read(dataset: h5py.Dataset, path: Path) -> Any:
    """Read a dataset; texts of any length are measured while they are read."""
    if not _is_variable(dataset.dtype):
        return dataset[()]
    # Many rows may refer to one long text.
    parts, n_bytes = [], 0
    for start in range(0, dataset.shape[0], _N_ROWS):
        part = dataset[start : start + _N_ROWS]
        fields = [part[name] for name in part.dtype.names] if part.dtype.names else [part]
        cells = (cell for field in fields if field.dtype.hasobject for cell in field.ravel())
        n_bytes += sum(len(cell) for cell in cells if hasattr(cell, "__len__"))
        check_size(n_bytes, path, "unpacked")
        parts.append(part)
    return np.concatenate(parts) if parts else dataset[()]
