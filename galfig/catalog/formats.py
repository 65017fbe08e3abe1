"""Formats: a catalog file of any kind that astronomers have, read into one table."""

import contextlib
import csv
import gzip
import io
import itertools
import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import IO, cast

import pandas as pd

from galfig.catalog.columns import EMPTY_CELLS, read_texts, require_column
from galfig.errors import CatalogError
from galfig.runtime.messages import quote, shorten

logger = logging.getLogger(__name__)

FORMATS = ".csv, .csv.gz, .parquet, .fits, .fits.gz or .ecsv"


def read_table(path: Path, id_column: str, text_columns: Collection[str] = ()) -> pd.DataFrame:
    """Read a catalog whole, the identifiers as text from the first byte.

    Parameters
    ----------
    path : Path
        CSV (also gzipped), Parquet, FITS or ECSV, told apart by suffix.
    id_column : str
        Column with the identifiers. As a float64, 1237665024900858129 is off by 17, so a column
        of floats is refused.
    text_columns : collection of str, optional
        Columns of a CSV file that are text too, whatever they look like: a plate called '0266'
        keeps its zero.

    Returns
    -------
    DataFrame
        Integers stay exact where cells are empty (pandas' nullable types).

    Raises
    ------
    CatalogError
        An unknown suffix, a file that cannot be read, a table without rows or without the
        identifiers' column.
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
    # At damaged files the four libraries behind this raise whatever their code runs into.
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
    """Read a CSV file; the lines that begin with '#' before the header are passed over."""
    try:
        with _open_text(path) as stream:
            header = _read_header(stream, path, id_column)
            n_rows = _count_rows(stream, len(header), path)
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
            # Named column by column, so that a galaxy called 'NA' keeps its name.
            keep_default_na=False,
            na_values={name: EMPTY_CELLS for name in header if name != id_column},
            dtype_backend="numpy_nullable",
            # One type a column, not one a chunk.
            low_memory=False,
        )
    if len(table) < n_rows:
        raise CatalogError(
            f"{path}: {len(table)} of {n_rows} rows can be read, expected all; close every quote"
        )
    return table


def _read_header(stream: IO[str], path: Path, id_column: str) -> list[str]:
    """Return the names of the columns of a CSV file, and leave its rows in the stream."""
    line = "#"
    while line.startswith("#") or line.isspace():
        line = stream.readline()
    header = next(csv.reader(itertools.chain([line], stream), skipinitialspace=True), [])
    if not any(header):
        raise CatalogError(f"{path}: empty, expected a header line with column names")
    names = _name_columns(header, path)
    sign = next((sign for sign in ";\t| " if sign in names[0]), None)
    if len(names) == 1 and sign is not None and id_column not in names:
        raise CatalogError(
            f"{path}: one column {quote(names[0])}, expected commas between columns, not {sign!r}"
        )
    return names


def _count_rows(stream: IO[str], n_columns: int, path: Path) -> int:
    """Count the rows of a CSV file; one with cells too many or too few is refused."""
    n_rows = 0
    for cells in csv.reader(stream, skipinitialspace=True):
        if len(cells) == n_columns and (n_columns > 1 or cells[0]):
            n_rows += 1
        elif len(cells) > 1 or any(cells):
            found = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            raise CatalogError(
                f"{path}: row {n_rows + 1}: {found}, expected {n_columns} as in the header"
            )
    return n_rows


def _name_columns(names: Iterable[object], path: Path) -> list[str]:
    """Return the names of columns as the store can hold them; Parquet may have numbers for them."""
    texts = [str(name).strip() or f"Unnamed: {index}" for index, name in enumerate(names)]
    for text, count in Counter(texts).items():
        if "\0" in text:
            raise CatalogError(f"{path}: NUL bytes in column names, expected text in UTF-8")
        if count > 1:
            raise CatalogError(f"{path}: two columns named {quote(text)}, expected each name once")
    return texts


def _check_texts(table: pd.DataFrame, path: Path) -> None:
    """Raise CatalogError where a text holds a NUL, which ends a text in the store."""
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
    # On damaged gzip astropy may read without end; unpacked first, the checksum is compared.
    is_packed = path.suffix.lower() == ".gz"
    return io.BytesIO(gzip.decompress(path.read_bytes())) if is_packed else path.open("rb")


def _open_bytes(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _find_undecodable(path: Path) -> int:
    """Return the number of the first line that is not UTF-8."""
    number = 0
    with _open_bytes(path) as stream, contextlib.suppress(UnicodeDecodeError):
        for line in stream:
            number += 1
            line.decode()
    return number


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read Parquet; where the identifiers were the index of a data frame, they are a column."""
    table = pd.read_parquet(path, dtype_backend="numpy_nullable")
    return table.reset_index(drop=table.index.names == [None])


def _read_astropy(path: Path, format: str) -> pd.DataFrame:
    """Read FITS or ECSV through astropy; columns of vectors have no place in a flat table."""
    from astropy.table import Column, Table

    # A stream is closed where a path, of a damaged file, would be left open.
    with _open_unpacked(path) as stream, warnings.catch_warnings():
        # A damaged file is one line, by the error that follows.
        warnings.simplefilter("ignore")
        table = Table.read(stream, format=format)
        flat = [
            name
            for name in table.colnames
            if isinstance(table[name], Column) and table[name].ndim == 1
        ]
        frame = table[flat].to_pandas(use_nullable_int=True)
    left = [name for name in table.colnames if name not in flat]
    if left:
        logger.warning(
            "%s: columns of arrays, times or coordinates are left out: %s", path, shorten(left)
        )
    for name in frame.columns[[dtype.kind == "O" for dtype in frame.dtypes]]:
        frame[name] = [cell.decode() if isinstance(cell, bytes) else cell for cell in frame[name]]
    return frame


def _first_line(exc: BaseException) -> str:
    return next(iter(str(exc).strip().splitlines()), type(exc).__name__)
