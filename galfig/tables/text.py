"""Text: CSV, as any program reads it, and ECSV, which adds units, descriptions and origin."""

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from galfig.tables.columns import Cells, Table, read_cells
from galfig.tables.conversion import make_astropy

# Rows that become text at a time.
_BLOCK = 1 << 14
# What makes a cell need quotation marks.
_SPECIAL = re.compile(r'[,"\r\n]')
# What spreadsheet programs take for a formula, where it is no number.
_FORMULA = re.compile(r"[=+\-@\t\r]")


def write_csv(path: Path, table: Table) -> None:
    """Write CSV: UTF-8, a line of names, a comma between cells, nothing in missing ones.

    Numbers have as many digits as it takes to read the same bits again.
    """
    from galfig.tables.formats import warn_of_change

    columns = {name: read_cells(column) for name, column in table.columns.items()}
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(_join(columns))
        for start in range(0, len(table), _BLOCK):
            rows = slice(start, start + _BLOCK)
            written = [list(iter_texts(cells, rows)) for cells in columns.values()]
            file.writelines(map(_join, zip(*written, strict=True)))
    looks = [name for name, cells in columns.items() if _holds_formulas(cells)]
    warn_of_change(path, "spreadsheet programs may take text in it for formulas", looks)
    looks = [name for name in columns if _is_formula(name)]
    warn_of_change(path, "spreadsheet programs may take names of columns for formulas", looks)


def _join(cells: Iterable[str]) -> str:
    """Write a line of CSV; Python's own writer would leave a lone carriage return unquoted."""
    line = ",".join(
        f'"{cell.replace(chr(34), chr(34) * 2)}"' if _SPECIAL.search(cell) else cell
        for cell in cells
    )
    # An empty line would be none.
    return f"{line}\n" if line else '""\n'


def iter_texts(cells: Cells, rows: slice = slice(None)) -> Iterator[str]:
    """Yield cells as text that gives the same number again; "" for missing ones and NaN."""
    values, is_hidden = cells.values[rows], cells.is_missing[rows]
    if cells.kind == "number":
        is_hidden = is_hidden | np.isnan(values)
    # The shortest text of a float32 is shorter than that of the same number as a float64.
    is_short = cells.kind == "number" and values.dtype.itemsize < 8
    cells_of = values if is_short else values.tolist()
    for value, hidden in zip(cells_of, is_hidden.tolist(), strict=True):
        yield "" if hidden else str(value)


def _holds_formulas(cells: Cells) -> bool:
    if cells.kind != "text":
        return False
    return any(map(_is_formula, cells.values.tolist()))


def _is_formula(text: str) -> bool:
    return _FORMULA.match(text) is not None and not _is_number(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_ecsv(path: Path, table: Table) -> None:
    """Write ECSV by means of astropy, in UTF-8 whatever the locale."""
    stream = io.StringIO()
    make_astropy(table).write(stream, format="ascii.ecsv")
    path.write_text(stream.getvalue(), encoding="utf-8", newline="\n")
