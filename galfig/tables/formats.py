"""Formats: tables written as files, in the format that the suffix names."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from galfig.errors import OutputError
from galfig.runtime.files import ErrorOrReplace, replace_file
from galfig.runtime.messages import quote
from galfig.tables.columns import Table
from galfig.tables.images import Image

logger = logging.getLogger(__name__)

Writer = Callable[[Path, Table], None]

SUFFIXES = (".fits", ".csv", ".ecsv", ".vot", ".xml", ".parquet", ".mrt")
"""Suffixes of the tables that can be written."""

# Keywords of FITS end in the number of the column, which has three digits.
_MOST_IN_FITS = 999
_SAME = {".fit": ".fits", ".votable": ".vot", ".xml": ".vot", ".pq": ".parquet"}


def find_format(path: Path) -> str:
    """Return the suffix of the format of a table; "" if it is none."""
    suffix = path.suffix.lower()
    suffix = _SAME.get(suffix, suffix)
    return suffix if suffix in SUFFIXES else ""


def check_table(path: Path | None) -> None:
    """Check that a table can be written under a name.

    Parameters
    ----------
    path : Path or None
        The table; None for none.

    Raises
    ------
    OutputError
        If its suffix is that of no format.
    """
    if path is not None and not find_format(path):
        raise OutputError(f"{path}: suffix {path.suffix!r}, expected {', '.join(SUFFIXES)}")


def write_table(
    path: Path,
    table: Table,
    *,
    images: Iterable[Image] = (),
    if_exists: ErrorOrReplace = "error",
) -> None:
    """Write a table in the format of its suffix, with units, descriptions and its origin.

    FITS, ECSV and VOTable are made by astropy, in memory; CSV, MRT and Parquet are written some
    rows at a time. CSV has no place for units, descriptions and origin.

    Parameters
    ----------
    path : Path
        The file, which appears only when it is complete: .fits, .csv, .ecsv, .vot, .xml, .parquet
        or .mrt.
    table : Table
        The table.
    images : iterable of Image, optional
        Images for extensions behind the table; formats other than FITS leave them out.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file already exists.

    Raises
    ------
    OutputError
        If the suffix is that of no format, the table has more columns than FITS has room for, or
        the file exists or cannot be written.
    """
    check_table(path)
    suffix = find_format(path)
    if suffix == ".fits" and len(table.columns) > _MOST_IN_FITS:
        raise OutputError(
            f"{path}: {len(table.columns)} columns, expected at most {_MOST_IN_FITS} in FITS; "
            "write the table in another format, such as .parquet, or leave out columns of the "
            "catalog"
        )
    with replace_file(path, if_exists=if_exists) as temporary:
        if suffix == ".fits":
            from galfig.tables.fits import write_fits

            write_fits(temporary, table, images)
        else:
            _load_writer(suffix)(temporary, table)


def _load_writer(suffix: str) -> Writer:
    """Return the writer of a format; those of others need libraries that are slow to import."""
    from galfig.tables import text

    if suffix == ".csv":
        return text.write_csv
    if suffix == ".ecsv":
        return text.write_ecsv
    if suffix == ".mrt":
        from galfig.tables.mrt import write_mrt

        return write_mrt
    if suffix == ".parquet":
        from galfig.tables.parquet import write_parquet

        return write_parquet
    from galfig.tables.votable import write_votable

    return write_votable


def warn_of_change(path: Path, what: str, names: list[str]) -> None:
    """Log that a format cannot hold the names or cells of some columns as they are."""
    if names:
        listed = ", ".join(map(quote, names[:5])) + (" ..." if len(names) > 5 else "")
        logger.warning("%s: %s: %s", path.suffix.lstrip(".").upper(), what, listed)
