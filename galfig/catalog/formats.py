"""Formats: a catalog file in any format that astronomers use, read into one table.

The file is read once, and its bytes are both parsed and digested. A file that is replaced or
written meanwhile cannot make the digest that of another catalog.
"""

import contextlib
import csv
import io
import itertools
import logging
import warnings
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from galfig.catalog.columns import EMPTY_CELLS, read_texts, require_column
from galfig.errors import CatalogError
from galfig.runtime.inputs import is_shortage, read_regular
from galfig.runtime.machine import find_memory
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
TEXT, PARQUET = (".csv", ".csv.gz"), (".parquet", ".pq")
SUFFIXES = (*TEXT, *PARQUET, ".fits", ".fit", ".fits.gz", ".ecsv")
# Largest catalog, also unpacked [byte], and largest fraction of the memory that it may take.
MAX_BYTES, MEMORY_SHARE = 1 << 32, 0.125
# Longest name of a column [byte] and longest cell [character] of a text file.
MAX_NAME, MAX_CELL = 1000, 131_072
GZIP_MAGIC = b"\x1f\x8b"


def read_file(path: Path) -> bytes:
    """Read a catalog file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    bytes
        As they are in the file, packed or not.

    Raises
    ------
    CatalogError
        If the file is missing, cannot be read, is no regular file, or is larger than ``MAX_BYTES``
        or than an eighth of the memory.
    """
    try:
        return read_regular(path, _find_limit())
    except FileNotFoundError as exc:
        raise CatalogError(f"{path}: no such file, expected a catalog") from exc
    except OSError as exc:
        raise CatalogError(f"{path}: cannot be read ({exc.strerror})") from exc


def read_table(
    path: Path, id_column: str, text_columns: Collection[str] = (), *, data: bytes | None = None
) -> pd.DataFrame:
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
    data : bytes, optional
        The content of the file, if `read_file` has read it already.

    Returns
    -------
    DataFrame
        N rows. ``id_column`` is text. Columns of integers stay exact where cells are empty
        (pandas' nullable types).

    Raises
    ------
    CatalogError
        If the suffix is unknown, the file cannot be read or is too large, the table has no rows
        or no column of identifiers, or the identifiers are floats.
    """
    suffixes = "".join(path.suffixes[-2:]).lower()
    if not suffixes.endswith(SUFFIXES):
        raise CatalogError(f"{path}: unknown suffix {path.suffix!r}, expected {FORMATS}")
    data = read_file(path) if data is None else data
    try:
        plain = _unpack(data, path) if suffixes.endswith(".gz") else data
        if suffixes.endswith(TEXT):
            table = _read_csv(plain, path, id_column, text_columns)
        elif suffixes.endswith(PARQUET):
            table = _read_parquet(plain, path)
        else:
            table = _read_astropy(plain, path, suffixes.endswith(".ecsv"))
    except CatalogError:
        raise
    # On a damaged file, the libraries behind these readers can raise any exception.
    except Exception as exc:
        reason = "out of memory" if is_shortage(exc) else _first_line(exc)
        raise CatalogError(f"{path}: cannot be read ({reason})") from exc
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


def _read_csv(
    data: bytes, path: Path, id_column: str, text_columns: Collection[str]
) -> pd.DataFrame:
    """Read a CSV file, skipping the lines before the header that begin with '#'."""
    try:
        with _open_text(data) as stream:
            header = _read_header(stream, path, id_column)
            n_rows = _count_rows(stream, header, path)
    except UnicodeDecodeError as exc:
        raise CatalogError(
            f"{path}: line {_find_undecodable(data)} is not UTF-8, expected comma-separated "
            "text in UTF-8; save it in that encoding"
        ) from exc
    with _open_text(data) as stream:
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
    for cells in _iter_rows(stream, path):
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


def _iter_rows(stream: IO[str], path: Path) -> Iterator[list[str]]:
    """Give the rows of a CSV file; a cell beyond the limit of the csv module is an error."""
    rows = csv.reader(stream, skipinitialspace=True)
    try:
        yield from rows
    except csv.Error as exc:
        if "field larger" not in str(exc):
            raise
        raise CatalogError(
            f"{path}: line {rows.line_num} after the header: a cell of more than {MAX_CELL} "
            "characters, expected fewer; close every quote, or leave this column out"
        ) from exc


def _name_columns(names: Iterable[object], path: Path) -> list[str]:
    """Return column names that the store can hold; in Parquet they may be numbers."""
    texts = [str(name).strip() or f"Unnamed: {index}" for index, name in enumerate(names)]
    for text, count in Counter(texts).items():
        if "\0" in text:
            raise CatalogError(f"{path}: NUL bytes in column names, expected text in UTF-8")
        if len(text.encode("utf-8", "surrogateescape")) > MAX_NAME:
            raise CatalogError(
                f"{path}: the name of a column, {quote(text)}, is longer than {MAX_NAME} "
                "bytes, expected a name"
            )
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


def _open_text(data: bytes) -> IO[str]:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")


def _find_limit() -> int:
    """Return the largest size of a catalog [byte] on this machine."""
    return min(MAX_BYTES, int(MEMORY_SHARE * find_memory()))


def _check_size(n_bytes: int, path: Path, state: str) -> None:
    """Raise CatalogError if a catalog takes too much memory, unpacked or decoded."""
    if n_bytes > (limit := _find_limit()):
        raise CatalogError(
            f"{path}: more than {limit / 1e9:.1f} GB {state}, expected less; leave out columns, or "
            "use a machine with more memory"
        )


def _unpack(data: bytes, path: Path) -> bytes:
    """Undo gzip, which may consist of several streams, up to the largest size of a catalog."""
    # astropy may read damaged gzip forever. Unpacking it first verifies the checksum.
    plain, limit = io.BytesIO(), _find_limit()
    while data:
        if not data.startswith(GZIP_MAGIC) and plain.tell():
            # Padding, which gzip ignores too.
            if data.strip(b"\0"):
                raise CatalogError(f"{path}: bytes behind the gzip data, expected none")
            break
        stream = zlib.decompressobj(wbits=31)
        plain.write(stream.decompress(data, limit - plain.tell() + 1))
        _check_size(plain.tell(), path, "unpacked")
        if not stream.eof:
            raise CatalogError(f"{path}: gzip data that is truncated, expected all of it")
        data = stream.unused_data
    return plain.getvalue()


def _find_undecodable(data: bytes) -> int:
    """Return the number, from 1, of the first line that is not UTF-8."""
    number = 0
    with contextlib.suppress(UnicodeDecodeError):
        for line in io.BytesIO(data):
            number += 1
            line.decode()
    return number


def _read_parquet(data: bytes, path: Path) -> pd.DataFrame:
    """Read Parquet; a named index, which may hold the identifiers, becomes a column."""
    _check_parquet(data, path)
    table = pd.read_parquet(io.BytesIO(data), dtype_backend="numpy_nullable")
    return table.reset_index(drop=table.index.names == [None])


def _check_parquet(data: bytes, path: Path) -> None:
    """Raise CatalogError if a Parquet file takes too much memory when it is decoded.

    A value that many rows share is stored once: a few kilobytes can hold a billion rows.
    """
    import pyarrow as pa
    from pyarrow import compute, parquet

    with parquet.ParquetFile(io.BytesIO(data)) as file:
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
        n_plain = sum(max(8 * chunk.num_values, chunk.total_uncompressed_size) for chunk in chunks)
        _check_size(n_plain, path, "decoded")
        kinds = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
        types = {field.name: field.type for field in file.schema_arrow}
    plain = {
        name: kind.value_type if pa.types.is_dictionary(kind) else kind
        for name, kind in types.items()
    }
    texts = [name for name, kind in plain.items() if kind in kinds]
    table = parquet.read_table(io.BytesIO(data), columns=texts, read_dictionary=texts)
    n_text = 0
    for chunk in itertools.chain.from_iterable(column.chunks for column in table.columns):
        is_packed = pa.types.is_dictionary(chunk.type)
        lengths = compute.binary_length(chunk.dictionary if is_packed else chunk)
        lengths = lengths.take(chunk.indices) if is_packed else lengths
        n_text += compute.sum(lengths.cast(pa.int64())).as_py() or 0
    _check_size(n_text, path, "decoded")


def _read_astropy(data: bytes, path: Path, is_ecsv: bool) -> pd.DataFrame:
    """Read FITS or ECSV through astropy; columns of arrays are left out of the flat table."""
    from astropy.table import Column, Table

    with warnings.catch_warnings():
        # The error that follows already reports a damaged file.
        warnings.simplefilter("ignore")
        if not is_ecsv:
            _check_fits(data, path)
        table = Table.read(io.BytesIO(data), format="ascii.ecsv" if is_ecsv else "fits")
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


def _check_fits(data: bytes, path: Path) -> None:
    """Raise CatalogError if arrays of variable length take too much memory.

    A cell of such a column says which part of a common heap it is: each may claim all of it.
    """
    from astropy.io import fits

    with fits.open(io.BytesIO(data)) as hdus:
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
                _check_size(n_bytes, path, "in arrays of variable length")


def _first_line(exc: BaseException) -> str:
    return next(iter(str(exc).strip().splitlines()), type(exc).__name__)
