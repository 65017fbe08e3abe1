"""Formats: a catalog file in any format that astronomers use, read into one table.

The file is read once, and its bytes are both parsed and digested. A file that is replaced or
written meanwhile cannot make the digest that of another catalog.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from galfig.catalog import arrow, readme, tables
from galfig.catalog.arrow import Wanted
from galfig.catalog.columns import holds_whole_numbers, read_texts, require_column
from galfig.catalog.limits import find_limit, unpack
from galfig.catalog.text import Wish, name_columns, read_text
from galfig.errors import CatalogError
from galfig.runtime.inputs import is_shortage, open_regular, read_regular
from galfig.runtime.messages import find_near, quote, shorten

TEXT = {".csv": ".csv", ".tsv": ".tsv", ".tab": ".tsv"}
# Text whose layout is found from its first lines.
TEXT |= {suffix: ".txt" for suffix in (".dat", ".txt", ".asc", ".ascii", ".tbl", ".mrt", ".cat")}
PARQUET, FEATHER = (".parquet", ".pq"), (".feather", ".arrow", ".ipc")
FITS, VOTABLE = (".fits", ".fit", ".fts"), (".vot", ".votable", ".xml")
HDF5 = (".h5", ".hdf5", ".hdf")
SUFFIXES = (*TEXT, *PARQUET, *FEATHER, *FITS, *VOTABLE, *HDF5, ".ecsv")
FORMATS = (
    ".csv, .tsv, .dat, .txt, .mrt, .ecsv, .vot, .xml, .fits, .parquet, .feather or .h5, also .gz"
)
# Is shown a table while it is read.
OnTable = Callable[[pd.DataFrame], object]
# What a file of FITS begins with: source extractors write FITS tables of other suffixes.
_FITS_MAGIC = b"SIMPLE  ="


def read_file(path: Path, *, with_readme: bool = True) -> bytes:
    """Read a catalog file.

    Parameters
    ----------
    path : Path
        The file.
    with_readme : bool, default True
        Put the description of the columns above a table of CDS, if a file ``ReadMe`` beside it
        has one.

    Returns
    -------
    bytes
        As they are in the file, packed or not.

    Raises
    ------
    CatalogError
        If the file is missing, cannot be read, is no regular file, or is larger than the limit of
        `galfig.catalog.limits.find_limit`.
    """
    with _naming(path):
        data = read_regular(path, find_limit())
    is_text = TEXT.get(path.suffix.lower()) == ".txt" and not data.startswith(_FITS_MAGIC)
    return readme.describe(data, path) if with_readme and is_text else data


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have an error of the operating system say that it is about a catalog."""
    try:
        yield
    except FileNotFoundError as exc:
        raise CatalogError(f"{path}: no such file, expected a catalog") from exc
    except IsADirectoryError as exc:
        raise CatalogError(
            f"{path}: cannot be read ({exc.strerror}), expected a catalog; 'galfig catalog "
            "from-folders' makes one of folders of images"
        ) from exc
    except OSError as exc:
        raise CatalogError(f"{path}: cannot be read ({exc.strerror})") from exc


def is_parquet(path: Path) -> bool:
    """Return whether a name is one of a file of Parquet, of which columns can be read alone."""
    return path.suffix.lower() in PARQUET


@contextmanager
def open_parquet(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file of Parquet and digest it, without keeping its bytes in memory.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    file : BinaryIO
        The file.
    digest : str
        SHA-256 of its content, as hexadecimal digits.

    Raises
    ------
    CatalogError
        If the file cannot be opened; or, at the end, if it was written to in the meantime.
    """
    with _naming(path):
        file = open_regular(path)
    with file:
        before = os.fstat(file.fileno())
        with _naming(path):
            digest = hashlib.file_digest(file, "sha256")
        yield file, digest.hexdigest()
        after = os.fstat(file.fileno())
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise CatalogError(
            f"{path}: was written to while it was read, expected a complete file; wait until it "
            "is complete"
        )


def read_table(
    path: Path,
    id_column: str,
    text_columns: Collection[str] = (),
    *,
    data: bytes | None = None,
    chosen: str | None = None,
    names: tuple[str, ...] | None = None,
    faults: dict[int, str] | None = None,
    wanted: Wanted | None = None,
    on_table: OnTable | None = None,
) -> pd.DataFrame:
    """Read a whole catalog and keep the identifiers as exact text.

    Parameters
    ----------
    path : Path
        The file; its suffix tells the format, see `FORMATS`.
    id_column : str
        Column with the identifiers. A float64 would turn 1237665024900858129 into a number that
        is off by 17, so a column of floats is an error, unless all are whole numbers below 2^53.
    text_columns : collection of str, optional
        Other columns of a text file to read as text even where they look like numbers: a plate
        '0266' keeps its leading zero.
    data : bytes, optional
        The content of the file, if `read_file` has read it already.
    chosen : str, optional
        Name or number of the table, of a file that may hold several (FITS, VOTable, HDF5). By
        default, the first that has ``id_column``.
    names : tuple of str, optional
        Names of the columns of a text file without a header line.
    faults : dict of int to str, optional
        Filled with the reason for each row that cannot be read, by its number from 1; the row is
        then empty. Without it, the first of them is an error.
    wanted : Wanted, optional
        The columns to read; by default, all. Of Parquet and of text, others are not parsed.
    on_table : callable, optional
        As of `finish_table`.

    Returns
    -------
    DataFrame
        N rows. ``id_column`` is text, "" where it is empty. Columns of integers stay exact where
        cells are empty (pandas' nullable types).

    Raises
    ------
    CatalogError
        If the suffix is unknown, the file cannot be read or is too large, the table has no rows
        or no column of identifiers, or the identifiers are floats that have lost digits.
    """
    suffix = _find_suffix(path)
    if data is None:
        data = read_file(path, with_readme=names is None)
    with blaming(path):
        plain = unpack(data, path) if path.suffix.lower() == ".gz" else data
        if suffix in TEXT and plain.startswith(_FITS_MAGIC):
            suffix = ".fits"
        check_choice(path, chosen, names, suffix)
        wish = Wish(id_column, text_columns, names, faults, wanted)
        table = _parse(plain, path, suffix, wish, chosen)
    return finish_table(
        table,
        id_column,
        path,
        wanted,
        may_lack_names=suffix in TEXT and names is None,
        on_table=on_table,
    )


def _parse(plain: bytes, path: Path, suffix: str, wish: Wish, chosen: str | None) -> pd.DataFrame:
    """Read a table of the format that a suffix tells."""
    if suffix in TEXT:
        return read_text(plain, path, TEXT[suffix], wish)
    if suffix in PARQUET:
        return arrow.read_parquet(plain, path, wish.wanted)
    if suffix in FEATHER:
        return arrow.read_feather(plain, path)
    if suffix in FITS:
        return tables.read_fits(plain, path, wish.id_column, chosen)
    if suffix in VOTABLE:
        return tables.read_votable(plain, path, wish.id_column, chosen)
    if suffix in HDF5:
        return tables.read_hdf5(plain, path, wish.id_column, chosen)
    return tables.read_ecsv(plain, path)


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Turn whatever a library raises while it reads a catalog into a CatalogError of one line."""
    try:
        yield
    except CatalogError:
        raise
    # On a damaged file, the libraries behind these readers can raise any exception.
    except Exception as exc:
        reason = "out of memory" if is_shortage(exc) else _first_line(exc)
        raise CatalogError(f"{path}: cannot be read ({reason})") from exc


def finish_table(
    table: pd.DataFrame,
    id_column: str,
    path: Path,
    wanted: Wanted | None = None,
    *,
    may_lack_names: bool = False,
    on_table: OnTable | None = None,
) -> pd.DataFrame:
    """Check the names and texts of a table, and make its identifiers exact text.

    Parameters
    ----------
    table : DataFrame
        As a reader of a format returns it.
    id_column : str
        Column with the identifiers.
    path : Path
        Path of the catalog, for messages.
    wanted : Wanted, optional
        The columns to keep; by default, all.
    may_lack_names : bool, default False
        Whether the names of the columns may be the cells of a galaxy.
    on_table : callable, optional
        Called with the table as soon as its columns have names, before anything can be refused.

    Returns
    -------
    DataFrame
        As of `read_table`.

    Raises
    ------
    CatalogError
        As `read_table`.
    """
    table.columns = pd.Index(name_columns(table.columns, path))
    if on_table is not None:
        on_table(table)
    if may_lack_names and id_column not in table and not find_near(id_column, table.columns):
        raise CatalogError(
            f"{path}: no column {id_column!r}, expected by [catalog] id; it has "
            f"{shorten(list(table.columns))}; if these are no names but a galaxy, give the names "
            "in [catalog] names"
        )
    require_column(table, id_column, path, "[catalog] id")
    if table.empty:
        raise CatalogError(f"{path}: no rows, expected at least one galaxy")
    if wanted is not None:
        table = wanted.drop_others(table, path)
    table = table.reset_index(drop=True)
    _check_floats(table, id_column, path)
    texts = read_texts(table, id_column, path, "[catalog] id")
    table[id_column] = pd.Series(texts, dtype="string")
    del texts
    for column in table.columns:
        if column != id_column:
            _check_texts(table[column], path)
    return table


def _check_floats(table: pd.DataFrame, id_column: str, path: Path) -> None:
    """Raise CatalogError if identifiers are floats that may have lost digits."""
    series = table[id_column]
    if series.dtype.kind == "f" and not holds_whole_numbers(series):
        raise CatalogError(
            f"{path}: column {id_column!r} holds floating-point numbers, which cannot hold every "
            "identifier exactly; write it as text or as 64-bit integers"
        )


def _find_suffix(path: Path) -> str:
    """Return the suffix that tells the format, without that of gzip."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in SUFFIXES:
        raise CatalogError(f"{path}: unknown suffix {path.suffix!r}, expected {FORMATS}")
    return suffixes[-1]


def check_choice(
    path: Path, chosen: str | None, names: tuple[str, ...] | None, suffix: str = ""
) -> None:
    """Raise CatalogError if a format has neither several tables nor rows without a header.

    Parameters
    ----------
    path : Path
        The file, or a folder of Parquet.
    chosen : str or None
        Name or number of a table in it.
    names : tuple of str or None
        Names of the columns of a file without a header line.
    suffix : str, optional
        Suffix of its format; by default, that of the path, or of Parquet for a folder.
    """
    suffix = suffix or path.suffix.lower() or PARQUET[0]
    if chosen is not None and suffix not in (*FITS, *VOTABLE, *HDF5):
        raise CatalogError(
            f"{path}: table {quote(chosen)} is chosen, but a {suffix} file holds one, expected "
            "FITS, VOTable or HDF5"
        )
    if names is not None and suffix not in TEXT:
        raise CatalogError(
            f"{path}: [catalog] names is for text without a header line, but a {suffix} file "
            "names its columns; leave it out"
        )


def _check_texts(series: pd.Series, path: Path) -> None:
    """Raise CatalogError if a text holds a NUL character, which would truncate it in the store."""
    if series.dtype.kind != "O":
        return
    has_nul = [isinstance(cell, str) and "\0" in cell for cell in series.tolist()]
    if any(has_nul):
        row = has_nul.index(True)
        raise CatalogError(
            f"{path}: row {row + 1}, column {series.name!r}: {quote(series.iloc[row])}, "
            "expected text without NUL"
        )


def _first_line(exc: BaseException) -> str:
    return next(iter(str(exc).strip().splitlines()), type(exc).__name__)
