"""Picks: galaxies that are listed in a text file, one identifier per line."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from galfig.errors import SelectionError
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import quote

logger = logging.getLogger(__name__)

# What stands before the name of a file in place of an identifier.
MARK = "@"
# The largest file that is read [byte]: three million identifiers of SDSS.
MAX_BYTES = 1 << 26
# The longest identifier of a store [characters].
_MAX_OBJID = 255
# Heading of a column of identifiers, as tables of galfig have it; no galaxy is called so.
_HEADING = "objid"
_EXPECTED = "expected text with one identifier per line"

ReadPicks = Callable[[str], tuple[str, ...]]
"""Reads the file of a name."""


def read_picks(path: Path | str) -> tuple[str, ...]:
    """Read the identifiers of a text file, one per line.

    Parameters
    ----------
    path : Path or str
        The file, in UTF-8; see `parse_picks`.

    Returns
    -------
    tuple of str
        The identifiers, each once, in the order of the file.

    Raises
    ------
    SelectionError
        If the file is missing, cannot be read, is no regular file, is larger than `MAX_BYTES`, or
        is no such list.
    """
    path = Path(path)
    try:
        data = read_regular(path, MAX_BYTES)
    except FileNotFoundError as exc:
        raise SelectionError(f"{path}: no such file, {_EXPECTED}") from exc
    except OSError as exc:
        raise SelectionError(f"{path}: cannot be read ({exc.strerror}), {_EXPECTED}") from exc
    return parse_picks(data, path)


def parse_picks(data: bytes, path: Path) -> tuple[str, ...]:
    """Parse a list of identifiers.

    Parameters
    ----------
    data : bytes
        Text in UTF-8, with a byte order mark or without, in lines of any system. Empty lines, and
        what follows a ``#`` at the beginning of a line or after a blank, do not count. Nor does a
        first line ``objid``, the heading of a table of one column, or the quotation marks that
        such a table has.
    path : Path
        Name of the file, for messages.

    Returns
    -------
    tuple of str
        The identifiers, each once, in the order of the file; a line in the log counts those that
        were there before.

    Raises
    ------
    SelectionError
        If it is not such a text, or holds no identifier.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise SelectionError(f"{path}: not text in UTF-8, {_EXPECTED}") from exc
    if "\0" in text:
        raise SelectionError(f"{path}: not text, {_EXPECTED}")
    found = []
    # Other characters that Python takes for the end of a line may be part of a name.
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        name = _read_line(line)
        if len(name) > _MAX_OBJID:
            raise SelectionError(
                f"{path}: line {number} holds {quote(name)}, {len(name)} characters, {_EXPECTED}"
            )
        if name:
            found.append(name)
    if found and found[0].casefold() == _HEADING:
        del found[0]
    if not found:
        raise SelectionError(f"{path}: holds no identifier, {_EXPECTED}")
    return drop_repeated(found, str(path))


def _read_line(line: str) -> str:
    """Return the identifier of a line; "" if there is none."""
    bare = line.strip()
    if bare.startswith("#"):
        return ""
    for blank in (" #", "\t#"):
        bare = bare.partition(blank)[0].rstrip()
    is_quoted = len(bare) > 1 and bare[0] == bare[-1] == '"'
    return bare[1:-1].replace('""', '"') if is_quoted else bare


def drop_repeated(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Return names, each once, and count in the log those that come again."""
    names = tuple(names)
    once = tuple(dict.fromkeys(names))
    if n := len(names) - len(once):
        logger.warning("%s: %d of %d identifiers are repeated, taken once", where, n, len(names))
    return once


def is_listed(name: str) -> bool:
    """Return whether a name stands for the galaxies of a file: ``@picks.txt``."""
    return name.startswith(MARK) and len(name) > len(MARK)


def expand_objids(objids: Iterable[str], read: ReadPicks = read_picks) -> tuple[str, ...]:
    """Replace each ``@FILE`` among identifiers by those that the file lists.

    Parameters
    ----------
    objids : iterable of str
        Identifiers and names of files. An identifier that itself begins with ``@`` can be given in
        a file only.
    read : callable, optional
        Called with the name of each file; returns its identifiers.

    Returns
    -------
    tuple of str
        The identifiers in order; each once, if there is a file among them.

    Raises
    ------
    SelectionError
        As `read_picks`.
    """
    objids = tuple(objids)
    if not any(map(is_listed, objids)):
        return objids
    found: list[str] = []
    for name in objids:
        found += read(name.removeprefix(MARK)) if is_listed(name) else [name]
    return drop_repeated(found, "`objids`")
