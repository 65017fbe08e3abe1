"""Identifiers: the names of galaxies and of their image files, with every digit kept."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from galfig.errors import CatalogError
from galfig.runtime.messages import quote

# The longest file name on common file systems [byte].
MAX_NAME = 255
# Identifiers converted by a float or a spreadsheet: 1.23765E+18, 1237648720693755918.0, 1,237,648.
_ROUNDED = re.compile(r"[+-]?\d+([.,]\d*)?[eE][+-]\d+|[+-]?\d+\.0*|\d{1,3}(,\d{3})+(\.0*)?")
# Most identifiers, which nothing is wrong with.
_FINE = re.compile(rf"[0-9A-Za-z][0-9A-Za-z_]{{0,{MAX_NAME - 1}}}")
# A spreadsheet keeps this many digits of a number and replaces the others by zeros.
_SPREADSHEET_DIGITS = 15


def find_bad_objids(objid: Sequence[str], path: Path, column: str) -> dict[int, str]:
    """Find the rows whose identifier is empty, has lost digits, or is no file name.

    Parameters
    ----------
    objid : sequence of str
        Identifiers, in the order of the rows.
    path : Path
        Path of the catalog, for messages.
    column : str
        Column of the identifiers, for messages.

    Returns
    -------
    dict of int to str
        The reason for each such row, by its position.

    Raises
    ------
    CatalogError
        If every long number ends in zeros, as spreadsheets round them.
    """
    reasons = {}
    for row, name in enumerate(objid):
        if _FINE.fullmatch(name):
            continue
        # Tables write signs such as "--" for an empty cell.
        if not any(map(str.isalnum, name)):
            reasons[row] = f"no {column}"
        elif not is_plain_name(name):
            reasons[row] = (
                f"{column} {quote(name)} is not a plain file name, expected one without '/', "
                f"'\\', '..' or invisible characters, at most {MAX_NAME} bytes long"
            )
        elif _ROUNDED.fullmatch(name):
            reasons[row] = (
                f"{column} {quote(name)} looks rounded by a spreadsheet or float conversion, "
                "expected every digit and nothing else; export this column as text"
            )
    _check_digits(objid, path, column)
    return reasons


def find_doubled(objid: Sequence[str]) -> list[list[int]]:
    """Find the rows that share an identifier with others.

    Parameters
    ----------
    objid : sequence of str
        Identifiers, in the order of the rows; "" is none.

    Returns
    -------
    list of list of int
        The positions of the rows of each identifier that appears more than once. The two
        spellings in Unicode of an accented letter are the same: on some systems, they name the
        same file.
    """
    keys = [name if name.isascii() else unicodedata.normalize("NFC", name) for name in objid]
    # Equal texts have equal hashes, and these take less memory than the texts would in a set.
    hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
    ordered = np.sort(hashes)
    doubled = ordered[1:][ordered[1:] == ordered[:-1]]
    rows: dict[str, list[int]] = {}
    for row in np.flatnonzero(np.isin(hashes, doubled)).tolist():
        if keys[row]:
            rows.setdefault(keys[row], []).append(row)
    return [found for found in rows.values() if len(found) > 1]


def _check_digits(objid: Sequence[str], path: Path, column: str) -> None:
    """Raise CatalogError if every long number ends in zeros, as spreadsheets round them."""
    # The first number that keeps its digits ends the search.
    if any(end.strip("0") for end in _iter_ends(objid)):
        return
    # Six digits are all zeros by chance in one of a million catalogs.
    if sum(map(len, _iter_ends(dict.fromkeys(objid)))) >= 6:
        raise CatalogError(
            f"{path}: column {column!r} looks rounded by a spreadsheet: every number ends in zeros "
            f"after {_SPREADSHEET_DIGITS} digits, expected every digit; export this column as text"
        )


def _iter_ends(objid: Iterable[str]) -> Iterator[str]:
    """Give the digits of each long number that a spreadsheet would replace by zeros."""
    numbers = (name.lstrip("0") for name in objid if name.isascii() and name.isdecimal())
    return (name[_SPREADSHEET_DIGITS:] for name in numbers if len(name) > _SPREADSHEET_DIGITS)


def is_plain_name(text: str) -> bool:
    """Return whether a text can be part of a file name without leaving its folder.

    Parameters
    ----------
    text : str
        Such as an identifier.

    Returns
    -------
    bool
        False where the text is empty, too long, or holds '/', '\\', '..' or characters that
        cannot be printed.
    """
    return (
        text not in {"", ".", ".."}
        and "/" not in text
        and "\\" not in text
        and ".." not in text
        and text.isprintable()
        and len(text.encode()) <= MAX_NAME
    )
