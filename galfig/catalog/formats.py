"""Formats: a catalog file in any format that astronomers use, read into one table."""

import contextlib
import csv
import gzip
import io
import itertools
import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from galfig.catalog.columns import EMPTY_CELLS, read_texts, require_column
from galfig.errors import CatalogError
from galfig.runtime.messages import quote, shorten

if TYPE_CHECKING:
    from astropy.table import MaskedColumn

logger = logging.getLogger(__name__)

# Before version 3, pandas rounds the last digit of some numbers unless it is told not to; since
# then, it warns when it is told.
EXACT_FLOATS: dict[str, Any] = (
    {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}
)
FORMATS = ".csv, .csv.gz, .parquet, .fits, .fits.gz or .ecsv"


def read_table(path: Path, id_column: str, text_columns: Collection[str] = ()) -> pd.DataFrame:
    """Read a whole catalog and keep the identifiers as exact text.

    Parameters
    ----------
    path : Path
        CSV (also gzipped), Parquet, FITS or ECSV file; its suffix tells the format.
    id_column : str
        Column with the identifiers. A float64 would turn 1237665024900858129 into a number that
        is off by 17, so a column of floats is an error.
    text_columns : collection of str, optional
        Other columns of a CSV file to read as text even where they look like numbers: a plate
        '0266' keeps its leading zero.

    Returns
    -------
    DataFrame
        N rows. ``id_column`` is text. Columns of integers stay exact where cells are empty
        (pandas' nullable types).

    Raises
    ------
    CatalogError
        If the suffix is unknown, the file cannot be read, the table has no rows or no column of
        identifiers, or the identifiers are floats.
    """
    suffixes = "".join(path.suffixes[-2:]).lower()
    try:
        if suffixes.endswith((".csv", ".csv.gz")):
            table = _read_csv(path, id_column, text_columns)
        elif suffixes.endswith((".parquet", ".pq")):
            table = _read_parquet(path)
        elif suffixes.endswith((".fits", ".fit", ".fits.gz", ".ecsv")):
            table = _read_astropy(path, "ascii.ecsv" if suffixes.endswith(".ecsv") else "fits")
        else:
            raise CatalogError(f"{path}: unknown suffix {path.suffix!r}, expected {FORMATS}")
    except FileNotFoundError as exc:
        raise CatalogError(f"{path}: no such file, expected a catalog") from exc
    except CatalogError:
        raise
    # On a damaged file, the libraries behind these readers can raise any exception.
    except Exception as exc:
        raise CatalogError(f"{path}: cannot be read ({_first_line(exc)})") from exc
    table.columns = pd.Index(_name_columns(table.columns, path))
    require_column(table, id_column, path, "[catalog] id")
    if table.empty:
        raise CatalogError(f"{path}: no rows, expected at least one galaxy")
    if table[id_column].dtype.kind == "f":
        raise CatalogError(
            f"{path}: column {id_column!r} holds floating-point numbers, which cannot hold every "
            "identifier exactly; write it as text or as 64-bit integers"
        )
    table = table.reset_index(drop=True)
    table[id_column] = pd.Series(read_texts(table, id_column, path, "[catalog] id"), dtype="string")
    _check_texts(table.drop(columns=id_column), path)
    return table


def _read_csv(path: Path, id_column: str, text_columns: Collection[str]) -> pd.DataFrame:
    """Read a CSV file, skipping the lines before the header that begin with '#'."""
    try:
        with _open_text(path) as stream:
            header = _read_header(stream, path, id_column)
            n_rows = _count_rows(stream, header, path)
    except UnicodeDecodeError as exc:
        raise CatalogError(
            f"{path}: line {_find_undecodable(path)} is not UTF-8, expected comma-separated "
            "text in UTF-8; save it in that encoding"
        ) from exc
    with _open_text(path) as stream:
        _read_header(stream, path, id_column)
        table = pd.read_csv(
            stream,
            header=None,
            names=header,
            index_col=False,
            skipinitialspace=True,
            dtype={name: "string" for name in header if name in {id_column, *text_columns}},
            # Set for each column but the identifiers, so that a galaxy called 'NA' keeps its name.
            keep_default_na=False,
            na_values={name: EMPTY_CELLS for name in header if name != id_column},
            dtype_backend="numpy_nullable",
            **EXACT_FLOATS,
            # pandas would otherwise infer a type for each chunk of a column.
            low_memory=False,
        )
    if len(table) < n_rows:
        raise CatalogError(
            f"{path}: {len(table)} of {n_rows} rows can be read, expected all; close every quote"
        )
    return table


def _read_header(stream: IO[str], path: Path, id_column: str) -> list[str]:
    """Read the column names of a CSV file; the stream then stands at the first row."""
    line = "#"
    while line.startswith("#") or line.isspace():
        line = stream.readline()
    header = next(csv.reader(itertools.chain([line], stream), skipinitialspace=True), [])
    if not any(header):
        raise CatalogError(f"{path}: empty, expected a header line with column names")
    names = _name_columns(header, path)
    separator = next((char for char in ";\t| " if char in names[0]), None)
    if len(names) == 1 and separator is not None and id_column not in names:
        raise CatalogError(
            f"{path}: one column {quote(names[0])}, expected commas between columns, "
            f"not {separator!r}"
        )
    return names


def _count_rows(stream: IO[str], names: Sequence[str], path: Path) -> int:
    """Count the rows of a CSV file; a wrong number of cells, or a NUL, is an error."""
    n_rows, n_columns = 0, len(names)
    for cells in csv.reader(stream, skipinitialspace=True):
        # Before version 3, pandas ends a text at a NUL without a word.
        if "\0" in "".join(cells):
            column = next(index for index, cell in enumerate(cells) if "\0" in cell)
            name = quote(names[column]) if column < n_columns else column + 1
            raise CatalogError(
                f"{path}: row {n_rows + 1}, column {name}: {quote(cells[column])}, expected text "
                "without NUL"
            )
        if len(cells) == n_columns and (n_columns > 1 or cells[0]):
            n_rows += 1
        elif len(cells) > 1 or any(cells):
            found = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            raise CatalogError(
                f"{path}: row {n_rows + 1}: {found}, expected {n_columns} as in the header"
            )
    return n_rows


def _name_columns(names: Iterable[object], path: Path) -> list[str]:
    """Return column names that the store can hold; in Parquet they may be numbers."""
    texts = [str(name).strip() or f"Unnamed: {index}" for index, name in enumerate(names)]
    for text, count in Counter(texts).items():
        if "\0" in text:
            raise CatalogError(f"{path}: NUL bytes in column names, expected text in UTF-8")
        if count > 1:
            raise CatalogError(f"{path}: two columns named {quote(text)}, expected each name once")
    return texts


def _check_texts(table: pd.DataFrame, path: Path) -> None:
    """Raise CatalogError if a text holds a NUL character, which would truncate it in the store."""
    for column in table.columns[[dtype.kind == "O" for dtype in table.dtypes]]:
        has_nul = [isinstance(cell, str) and "\0" in cell for cell in table[column]]
        if any(has_nul):
            row = has_nul.index(True)
            raise CatalogError(
                f"{path}: row {row + 1}, column {column!r}: {quote(table[column].iloc[row])}, "
                "expected text without NUL"
            )


def _open_text(path: Path) -> IO[str]:
    return io.TextIOWrapper(_open_bytes(path), encoding="utf-8-sig", newline="")


def _open_unpacked(path: Path) -> IO[bytes]:
    # astropy may read damaged gzip forever. Unpacking it first verifies the checksum.
    is_packed = path.suffix.lower() == ".gz"
    return io.BytesIO(gzip.decompress(path.read_bytes())) if is_packed else path.open("rb")


def _open_bytes(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _find_undecodable(path: Path) -> int:
    """Return the number, from 1, of the first line that is not UTF-8."""
    number = 0
    with _open_bytes(path) as stream, contextlib.suppress(UnicodeDecodeError):
        for line in stream:
            number += 1
            line.decode()
    return number


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read Parquet; a named index, which may hold the identifiers, becomes a column."""
    table = pd.read_parquet(path, dtype_backend="numpy_nullable")
    return table.reset_index(drop=table.index.names == [None])


def _read_astropy(path: Path, format: str) -> pd.DataFrame:
    """Read FITS or ECSV through astropy; columns of arrays are left out of the flat table."""
    from astropy.table import Column, Table

    # Given the path of a damaged file, astropy would leave it open.
    with _open_unpacked(path) as stream, warnings.catch_warnings():
        # The error that follows already reports a damaged file.
        warnings.simplefilter("ignore")
        table = Table.read(stream, format=format)
        flat = [
            name
            for name in table.colnames
            if isinstance(table[name], Column) and table[name].ndim == 1
        ]
        frame = table[flat].to_pandas(use_nullable_int=True)
        for name in flat:
            if table[name].dtype.kind in "iu" and np.ma.is_masked(table[name]):
                frame[name] = _convert_integers(table[name])
    left = [name for name in table.colnames if name not in flat]
    if left:
        logger.warning(
            "%s: columns of arrays, times or coordinates are left out: %s", path, shorten(left)
        )
    for name in frame.columns[[dtype.kind == "O" for dtype in frame.dtypes]]:
        frame[name] = [cell.decode() if isinstance(cell, bytes) else cell for cell in frame[name]]
    return frame


def _convert_integers(column: "MaskedColumn") -> pd.arrays.IntegerArray:
    """Convert integers with empty cells exactly; astropy rounded them until version 8."""
    native = np.asarray(column.data.data).astype(column.dtype.newbyteorder("="))
    return pd.arrays.IntegerArray(native, np.ma.getmaskarray(column))


def _first_line(exc: BaseException) -> str:
    return next(iter(str(exc).strip().splitlines()), type(exc).__name__)
