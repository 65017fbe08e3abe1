"""Picks: galaxies that are listed in a table, such as rows that TOPCAT saved."""

from pathlib import Path

from galfig.catalog.formats import SUFFIXES, read_table
from galfig.errors import CatalogError

# With another suffix, or none, a file is a plain list of identifiers.
_LISTS = (".txt", ".dat", ".asc", ".ascii", ".cat")
# The column of identifiers in the tables that galfig writes, and in catalogs of SDSS.
_NAMES = ("objid", "objID")


def is_table(path: Path) -> bool:
    """Return whether a name is one of a table, by its suffix."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return bool(suffixes) and suffixes[-1] in SUFFIXES and suffixes[-1] not in _LISTS


def read_objids(path: Path) -> tuple[str, ...]:
    """Read the identifiers of the galaxies of a table.

    Parameters
    ----------
    path : Path
        A table in a format of `galfig.catalog.formats.FORMATS`, with a column ``objid``, as
        ``galfig export`` writes it, or ``objID``.

    Returns
    -------
    tuple of str
        The identifiers, as they are in the table.

    Raises
    ------
    CatalogError
        If the table cannot be read, or has no such column.
    """
    refused: list[CatalogError] = []
    for name in _NAMES:
        try:
            return tuple(cell for cell in read_table(path, name)[name].tolist() if cell)
        except CatalogError as exc:
            if "no column" not in str(exc):
                raise
            refused.append(exc)
    raise CatalogError(
        f"{path}: no column {' or '.join(map(repr, _NAMES))}, expected one with identifiers; "
        "rename it, or list them in a file .txt, one per line"
    ) from refused[0]
