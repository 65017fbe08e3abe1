"""Tables: FITS, ECSV, VOTable and HDF5 through astropy, with exact integers and vector columns."""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

import numpy as np
import pandas as pd

from galfig.catalog.arrow import MAX_ELEMENTS
from galfig.catalog.limits import check_size
from galfig.errors import CatalogError
from galfig.runtime.messages import list_some, one_line, quote, shorten

if TYPE_CHECKING:
    from astropy.table import Column, Table

logger = logging.getLogger(__name__)


def read_ecsv(data: bytes, path: Path) -> pd.DataFrame:
    """Read ECSV; see `make_frame`."""
    from astropy.table import Table

    with _quiet():
        return make_frame(Table.read(io.BytesIO(data), format="ascii.ecsv"), path)


def read_fits(data: bytes, path: Path, id_column: str, chosen: str | None) -> pd.DataFrame:
    """Read a table of a FITS file.

    Parameters
    ----------
    data : bytes
        The file.
    path : Path
        Its path, for messages.
    id_column : str
        Column of the identifiers; by default, the first table that has it is read.
    chosen : str, optional
        Name or number of the table; the primary HDU is number 0.

    Returns
    -------
    DataFrame
        See `make_frame`.

    Raises
    ------
    CatalogError
        If there is no such table, or arrays of variable length take too much memory.
    """
    from astropy.io import fits
    from astropy.table import Table

    with _quiet():
        with fits.open(io.BytesIO(data)) as hdus:
            _check_heaps(hdus, data, path)
            tables = {
                str(index): (hdu.name, list(hdu.columns.names))
                for index, hdu in enumerate(hdus)
                if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)
                and not isinstance(hdu, fits.CompImageHDU)
            }
        number = _choose(tables, id_column, chosen, path)
        return make_frame(Table.read(io.BytesIO(data), format="fits", hdu=int(number)), path)


def read_votable(data: bytes, path: Path, id_column: str, chosen: str | None) -> pd.DataFrame:
    """Read a table of a VOTable.

    Parameters
    ----------
    data : bytes
        The file.
    path : Path
        Its path, for messages.
    id_column : str
        Column of the identifiers; by default, the first table that has it is read.
    chosen : str, optional
        Name, ID or number of the table, from 0.

    Returns
    -------
    DataFrame
        See `make_frame`.

    Raises
    ------
    CatalogError
        If there is no such table, or the file declares entities or refers to data elsewhere.
    """
    from astropy.io import votable

    _check_xml(data, path)
    with _quiet():
        found = list(votable.parse(io.BytesIO(data)).iter_tables())
        tables = {
            str(index): (table.name or table.ID or "", [field.name for field in table.fields])
            for index, table in enumerate(found)
        }
        known = {table.ID: str(index) for index, table in enumerate(found) if table.ID}
        number = _choose(tables, id_column, known.get(chosen, chosen), path)
        return make_frame(found[int(number)].to_table(use_names_over_ids=True), path)


def read_hdf5(data: bytes, path: Path, id_column: str, chosen: str | None) -> pd.DataFrame:
    """Read a table of an HDF5 file.

    Parameters
    ----------
    data : bytes
        The file.
    path : Path
        Its path, for messages.
    id_column : str
        Column of the identifiers; by default, the first table that has it is read.
    chosen : str, optional
        Path of the dataset or group in the file.

    Returns
    -------
    DataFrame
        See `make_frame`.

    Raises
    ------
    CatalogError
        If there is no such table, or it cannot be read safely; see `galfig.catalog.hdf5`.
    """
    from galfig.catalog.hdf5 import open_tables, read_table

    with _quiet():
        file, columns = open_tables(data, path)
        with file:
            tables = {str(index): (name, columns[name]) for index, name in enumerate(columns)}
            wanted = chosen if chosen in (None, "/") else str(chosen).strip("/")
            number = _choose(tables, id_column, wanted, path)
            return make_frame(read_table(file, tables[number][0], path), path)


def make_frame(table: "Table", path: Path) -> pd.DataFrame:
    """Turn a table of astropy into one of pandas, with every digit kept.

    astropy's own ``to_pandas`` turns 64-bit integers beside a masked cell into floats in some
    versions, and rounds them by that.

    Parameters
    ----------
    table : astropy.table.Table
        N rows.
    path : Path
        Path of the catalog, for messages.

    Returns
    -------
    DataFrame
        N rows. Masked integers and booleans are of pandas' nullable types. A column ``NAME`` of
        arrays of the same length, `MAX_ELEMENTS` at most, becomes the columns ``NAME[0]``,
        ``NAME[1]``, ... Other columns of arrays are left out, with a warning. ``attrs["units"]``
        and ``attrs["descriptions"]`` hold what the table says of its columns, by name.
    """
    from astropy.table import Column

    parts: dict[str, Any] = {}
    left = []
    for name in table.colnames:
        column = table[name]
        is_plain = isinstance(column, Column) and not _holds_arrays(column)
        if is_plain and column.ndim == 1:
            parts[name] = _convert(column)
        elif is_plain and column.ndim == 2 and column.shape[1] <= MAX_ELEMENTS:
            parts |= {f"{name}[{i}]": _convert(column[:, i]) for i in range(column.shape[1])}
        else:
            left.append(name)
    if left:
        logger.warning(
            "%s: columns of long arrays, times or coordinates are left out: %s",
            path,
            shorten(left),
        )
    frame = pd.DataFrame(parts, index=range(len(table)))
    kept = [name for name in table.colnames if name in parts]
    frame.attrs["units"] = {name: str(table[name].unit) for name in kept if table[name].unit}
    frame.attrs["descriptions"] = {
        name: one_line(table[name].description) for name in kept if table[name].description
    }
    return frame


def _holds_arrays(column: "Column") -> bool:
    """Return whether the cells of a column are arrays, each of its own length."""
    return column.dtype.kind == "O" and any(isinstance(cell, np.ndarray) for cell in column)


def _convert(column: "Column") -> Any:
    """Convert a column of cells, whose masked ones become missing."""
    is_masked = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else None
    if is_masked is not None and not is_masked.any():
        is_masked = None
    cells = np.asarray(column.data.data if is_masked is not None else column)
    if cells.dtype.kind in "SUO":
        texts = [cell.decode() if isinstance(cell, bytes) else cell for cell in cells.tolist()]
        if is_masked is not None:
            texts = [
                None if hidden else text for text, hidden in zip(texts, is_masked, strict=True)
            ]
        return pd.Series(texts, dtype=object)
    cells = cells.astype(cells.dtype.newbyteorder("="))
    if is_masked is None:
        return cells
    if cells.dtype.kind in "iu":
        return pd.arrays.IntegerArray(cells, is_masked)
    if cells.dtype.kind == "b":
        return pd.arrays.BooleanArray(cells, is_masked)
    return pd.Series(cells).mask(is_masked)


def _choose(
    tables: Mapping[str, tuple[str, Sequence[str]]], id_column: str, chosen: str | None, path: Path
) -> str:
    """Return the number of the table that was chosen, or of the first with the identifiers."""
    there = list_some([f"{number} {quote(name)}" for number, (name, _) in tables.items()])
    if not tables:
        raise CatalogError(f"{path}: cannot be read (it holds no table), expected a catalog")
    if chosen is not None:
        names = [number for number, (name, _) in tables.items() if name == chosen]
        names += [n for n, (name, _) in tables.items() if name.lower() == chosen.lower()]
        if names or chosen in tables:
            return names[0] if names else chosen
        raise CatalogError(f"{path}: no table {quote(chosen)}, expected one of {there}")
    if len(tables) == 1:
        return next(iter(tables))
    having = [number for number, (_, columns) in tables.items() if id_column in columns]
    if not having:
        first = next(iter(tables))
        raise CatalogError(
            f"{path}: none of its tables has the column {quote(id_column)} of [catalog] id; they "
            f"are {there}, and the first has {shorten(list(tables[first][1]))}"
        )
    if len(having) > 1:
        first = having[0]
        logger.warning(
            "%s: holds several tables with a column %r and table %s is read; name another as "
            "'%s[NAME or number]': %s",
            path,
            id_column,
            f"{first} {tables[first][0]!r}",
            path.name,
            there,
        )
    return having[0]


def _check_heaps(hdus: Any, data: bytes, path: Path) -> None:
    """Raise CatalogError if arrays of variable length take too much memory.

    A cell of such a column says which part of a common heap it is: each may claim all of it.
    """
    from astropy.io import fits

    for hdu in hdus:
        if not isinstance(hdu, fits.BinTableHDU):
            continue
        formats = zip(hdu.columns.names, hdu.columns.formats, strict=True)
        names = [name for name, form in formats if "P" in form or "Q" in form]
        if names:
            start, n_rows = hdu.fileinfo()["datLoc"], hdu.header["NAXIS2"]
            rows = np.frombuffer(data, hdu.columns.dtype.newbyteorder(">"), n_rows, start)
            # The elements are complex numbers at most.
            n_bytes = sum(16 * int(rows[name][:, 0].sum(dtype=np.int64)) for name in names)
            check_size(n_bytes, path, "in arrays of variable length")


def _check_xml(data: bytes, path: Path) -> None:
    """Raise CatalogError if an XML file refers to data elsewhere, or declares entities.

    astropy would fetch the first from any address; the second can grow without bound.
    """
    parser = expat.ParserCreate()

    def refuse_elsewhere(name: str, attributes: dict[str, str]) -> None:
        keys = {key.lower().rpartition(":")[2] for key in attributes}
        if name.rpartition(":")[2].upper() == "STREAM" and "href" in keys:
            raise CatalogError(f"{path}: its data lie elsewhere, expected them in this file")

    def refuse_entities(*_: object) -> None:
        raise CatalogError(f"{path}: declares XML entities, expected a plain VOTable")

    parser.StartElementHandler = refuse_elsewhere
    parser.EntityDeclHandler = refuse_entities
    parser.Parse(data, True)


@contextlib.contextmanager
def _quiet() -> Any:
    """Hold back the warnings of astropy: an error that follows reports a damaged file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
