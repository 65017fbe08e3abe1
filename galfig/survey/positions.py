"""Positions: where the galaxies of a user's catalog are on the sky, and which rows cannot say it.

A service is asked once for each identifier, whose name its file gets.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galfig.catalog.columns import EMPTY_CELLS, read_numbers, require_column
from galfig.catalog.formats import read_file, read_table
from galfig.catalog.identifiers import MAX_NAME, find_bad_objids, find_doubled
from galfig.config import DEFAULT_FILE, Settings, load_settings
from galfig.errors import CatalogError, ConfigError
from galfig.records import FETCH_FILE
from galfig.runtime.messages import list_some, quote, shorten
from galfig.sky import POSITIONS, match_sky_columns
from galfig.survey.download import IMAGES
from galfig.survey.folder import Source
from galfig.survey.manifest import FAILED, MANIFEST
from galfig.survey.service import Target

# Right ascension is from 0 to 360 degrees, or from -180 to 180.
MIN_RA, MAX_RA, MAX_DEC = -180.0, 360.0, 90.0
# Hours or degrees, minutes and seconds: 12:34:56.7, 12h34m56.7s, +01d02m03s, 12 34 56.7
_SEXAGESIMAL = re.compile(
    r"\s*[+-]?\d{1,3}\s*[:hd°\s]\s*\d{1,2}\s*([:m'′\s]\s*(\d{1,2}(\.\d*)?\s*[s\"″]?)?)?\s*"
)
# Files that the folder of a fetch has beside the catalog.
_RESERVED = (MANIFEST, FAILED, FETCH_FILE, DEFAULT_FILE, IMAGES)
# The longest end of the name of a file: '.', a band, and '.fits'.
LONGEST_END = 24


class Positions(NamedTuple):
    """The galaxies of a catalog that can be asked for.

    Attributes
    ----------
    objid : tuple of str
        Their identifiers, n of them, each once.
    ra, dec : (n,) ndarray of float64
        Right ascension, from 0 to 360, and declination [deg].
    faults : dict of str to str
        Why a row of the catalog cannot be asked for, by its identifier, or "row 13" without one.
    content : bytes
        The file, as a copy of it is to be.
    """

    objid: tuple[str, ...]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    faults: dict[str, str]
    content: bytes


def choose_catalog(catalog: Path | str | None, settings: Any = None) -> Settings:
    """Return the settings with which a user's catalog is read.

    Parameters
    ----------
    catalog : Path, str or None
        The catalog; None for that of the settings.
    settings : Path, str, mapping or Settings, optional
        As `galfig.config.load_settings` takes them.

    Returns
    -------
    Settings

    Raises
    ------
    ConfigError
        If neither names a catalog, or the settings name several.
    """
    path = None if catalog is None else Path(catalog)
    chosen = load_settings(settings, {("catalog", "path"): path})
    files = chosen.catalog_files
    if len(files) > 1:
        names = ", ".join(quote(file.path.name) for file in files)
        raise ConfigError(f"[split] files: {names}, expected one catalog; name it by `catalog`")
    # The default is simulated galaxies, which no survey has seen.
    if "path" not in chosen.catalog.model_fields_set and "train" not in chosen.split.catalogs:
        raise ConfigError("`catalog`: none is given, expected a table of identifiers and positions")
    return chosen


def read_positions(settings: Settings, ra: str | None = None, dec: str | None = None) -> Positions:
    """Read the identifiers and positions of the galaxies of a catalog.

    Parameters
    ----------
    settings : Settings
        ``[catalog]`` names the file and its column of identifiers.
    ra, dec : str, optional
        Columns of right ascension and declination [deg]; by default, the first pair of names of
        `galfig.sky.POSITIONS` that is there.

    Returns
    -------
    Positions

    Raises
    ------
    CatalogError
        If the file cannot be read, has no such columns, or holds sexagesimal positions; or if no
        row has an identifier and a position.
    """
    catalog = settings.catalog
    path, chosen, _ = settings.catalog_files[0]
    content = read_file(path, with_readme=catalog.names is None)
    unreadable: dict[int, str] = {}
    table = read_table(
        path,
        catalog.id,
        data=content,
        chosen=chosen,
        names=catalog.names,
        faults=unreadable,
    )
    columns = _choose_columns(table, ra, dec, path)
    objid = table[catalog.id].fillna("").tolist()
    reasons = {row - 1: reason for row, reason in unreadable.items()}
    for row, reason in find_bad_objids(objid, path, catalog.id).items():
        reasons.setdefault(row, reason)
    degrees = [_read_degrees(table, name, path, reasons) for name in columns]
    _check_ranges(columns, degrees, reasons)
    for row, name in enumerate(objid):
        if row not in reasons and len(name.encode()) > MAX_NAME - LONGEST_END:
            reasons[row] = (
                f"{catalog.id} {quote(name)} is too long for the name of its file, expected at "
                f"most {MAX_NAME - LONGEST_END} bytes"
            )
    rows = _leave_out_doubled(objid, degrees, reasons, settings)
    faults = {
        objid[row] if objid[row] and row not in unreadable else f"row {row + 1}": reason
        for row, reason in sorted(reasons.items())
    }
    if not len(rows):
        words = [f"{name}: {reason}" for name, reason in faults.items()]
        raise CatalogError(
            f"{path}: no galaxy has an identifier and a position, expected at least one; "
            f"{list_some(words, 3)}"
        )
    return Positions(
        tuple(objid[row] for row in rows),
        degrees[0][rows] % 360,
        degrees[1][rows],
        faults,
        content,
    )


def make_source(
    positions: Positions, settings: Settings, words: str
) -> tuple[Source, tuple[Target, ...]]:
    """Return what gives a folder its catalog, and the galaxies to ask for.

    Parameters
    ----------
    positions : Positions
        Those of the catalog.
    settings : Settings
        Those with which it is read.
    words : str
        Settings that read the folder, as TOML; "" where the defaults do.

    Returns
    -------
    source : Source
    targets : tuple of Target

    Raises
    ------
    CatalogError
        If the catalog has the name of another file of the folder, or its column of identifiers
        cannot stand in a template of paths.
    """
    path, column = settings.catalog_files[0].path, settings.catalog.id
    if path.name.lower() in _RESERVED:
        raise CatalogError(
            f"{path}: the folder has a file of this name for itself, expected a catalog of another "
            "name"
        )
    if any(char in column for char in "{}[]:!"):
        raise CatalogError(
            f"{path}: column {column!r} cannot stand in a template of paths, expected a name "
            "without '{', '}', '[', ']', ':' and '!'"
        )
    places = zip(positions.objid, positions.ra.tolist(), positions.dec.tolist(), strict=True)
    targets = tuple(Target(*place) for place in places)
    source = Source(
        path.name,
        lambda: positions.content,
        lambda path: targets,
        id=column,
        faults=positions.faults,
        settings=words,
    )
    return source, targets


def _choose_columns(
    table: pd.DataFrame, ra: str | None, dec: str | None, path: Path
) -> tuple[str, str]:
    """Return the columns of the positions: those that are named, or those of a known name."""
    if (ra is None) != (dec is None):
        given, other = ("ra", "dec") if dec is None else ("dec", "ra")
        raise CatalogError(f"`{given}` is given without `{other}`, expected both columns or none")
    if ra is not None and dec is not None:
        for name, argument in ((ra, "`ra`"), (dec, "`dec`")):
            require_column(table, name, path, argument)
        if ra == dec:
            raise CatalogError(f"{path}: `ra` and `dec` are column {quote(ra)}, expected two")
        return ra, dec
    if found := match_sky_columns(map(str, table.columns)):
        return found
    known = ", ".join(f"{first} and {second}" for first, second in POSITIONS[:2])
    raise CatalogError(
        f"{path}: no columns of right ascension and declination, expected {known}, or others "
        f"named by `ra` and `dec`; it has {shorten([*map(str, table.columns)])}"
    )


def _read_degrees(
    table: pd.DataFrame, name: str, path: Path, reasons: dict[int, str]
) -> NDArray[np.float64]:
    """Read a coordinate [deg], NaN where there is none, with the reason."""
    if table[name].dtype.kind not in "iuf":
        for row, cell in enumerate(table[name].tolist(), start=1):
            if isinstance(cell, str) and _SEXAGESIMAL.fullmatch(cell) and not _is_number(cell):
                raise CatalogError(
                    f"{path}: row {row}, column {name!r}: {quote(cell)}, expected degrees as a "
                    "number; convert sexagesimal positions first, for example with SkyCoord of "
                    "astropy"
                )
    bad: dict[int, str] = {}
    degrees = read_numbers(table, name, path, "a position", bad=bad)
    for row, cell in bad.items():
        reasons.setdefault(row, f"{name} {cell} is no number, expected degrees")
    return degrees


def _is_number(cell: str) -> bool:
    return cell.strip() in EMPTY_CELLS or re.fullmatch(r"\s*[+-]?\d+\s*", cell) is not None


def _check_ranges(
    columns: tuple[str, str], degrees: Sequence[NDArray[np.float64]], reasons: dict[int, str]
) -> None:
    """Add the reasons why numbers are no position."""
    limits = ((MIN_RA, MAX_RA), (-MAX_DEC, MAX_DEC))
    for name, values, (low, high) in zip(columns, degrees, limits, strict=True):
        with np.errstate(invalid="ignore"):
            is_good = (values >= low) & (values <= high)
        for row in np.flatnonzero(~is_good).tolist():
            value = float(values[row])
            words = f"no {name}" if np.isnan(value) else f"{name} {value:g}"
            expected = "" if np.isnan(value) else f", expected {low:g} to {high:g} degrees"
            reasons.setdefault(row, f"{words}{expected}")


def _leave_out_doubled(
    objid: Sequence[str],
    degrees: Sequence[NDArray[np.float64]],
    reasons: dict[int, str],
    settings: Settings,
) -> NDArray[np.intp]:
    """Return the rows to ask for: of rows that share an identifier, what `load_galaxies` keeps."""
    column = settings.catalog.id
    repeated = set()
    usable = ["" if row in reasons else name for row, name in enumerate(objid)]
    for rows in find_doubled(usable):
        first, *others = rows
        repeated.update(others)
        is_one = all(values[row] == values[first] for values in degrees for row in others)
        if not is_one and settings.catalog.duplicates != "first":
            reasons[first] = f"{column} {quote(objid[first])} is also in row {others[0] + 1}"
            repeated.add(first)
    return np.array(
        [row for row, name in enumerate(usable) if name and row not in repeated], dtype=np.intp
    )
