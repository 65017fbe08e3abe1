"""Conversion: a table of galfig as one of astropy, with masks, units and descriptions."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from galfig.runtime.documents import dump_json
from galfig.tables.columns import Cells, Table, read_cells

if TYPE_CHECKING:
    from astropy.table import Table as AstropyTable

# Marks a missing integer where a format needs a number for that; the same as in stores.
MISSING_INTEGER = np.iinfo(np.int64).min


def make_astropy(table: Table, encode: Callable[[str], Any] = str) -> "AstropyTable":
    """Convert a table.

    Parameters
    ----------
    table : Table
        The table.
    encode : callable, optional
        What becomes of each text.

    Returns
    -------
    astropy.table.Table
        Its columns have names, units and descriptions; what is missing is masked. Its ``meta``
        is ``title`` and ``galfig``.
    """
    from astropy.table import Table as AstropyTable
    from astropy.units import Unit

    # Plain lists and dicts, since YAML would tag all other Python types.
    meta = {"title": table.title, "galfig": json.loads(dump_json(table.meta))}
    made = AstropyTable(meta=meta)
    with quiet():
        for name, column in table.columns.items():
            made[name] = _convert(read_cells(column), encode)
            made[name].description = column.description or None
            made[name].unit = Unit(column.unit, parse_strict="silent") if column.unit else None
    return made


def _convert(cells: Cells, encode: Callable[[str], Any]) -> Any:
    """Return cells as a column of astropy."""
    from astropy.table import Column as AstropyColumn
    from astropy.table import MaskedColumn

    values = cells.values
    if cells.kind == "text":
        values = np.array([encode(text) for text in values.tolist()] or [encode("")])
        values = values[: len(cells.values)]
    elif cells.kind == "integer" and cells.is_missing.any():
        values = np.where(cells.is_missing, MISSING_INTEGER, values.astype(np.int64))
    if not cells.is_missing.any():
        return AstropyColumn(values)
    found = MaskedColumn(values, mask=cells.is_missing)
    if cells.kind == "integer":
        # The number that astropy takes by default, 999999, may be that of a galaxy.
        found.fill_value = MISSING_INTEGER
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back warnings of astropy, such as of units that no standard has: they stay as given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
