"""MRT: machine-readable tables of the AAS journals, lines of columns of fixed width."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from galfig.tables.columns import Cells, Table, make_distinct, name_in_ascii, read_cells
from galfig.tables.conversion import quiet
from galfig.tables.text import iter_texts

# Longest line of the description above the data, and the rules in it [characters].
_WIDTH = 80
_RULE, _HEAVY = "-" * _WIDTH, "=" * _WIDTH
_HEADING = " Bytes Format Units  Label     Explanations"
# Rows that become text at a time.
_BLOCK = 1 << 14
# What does not stand in a label, which ends at a blank.
_NOT_IN_LABEL = re.compile(r"[^!-~]+")


class _Field(NamedTuple):
    """A column as it is written: its cells, format in Fortran's words, and width [characters]."""

    cells: Cells
    label: str
    form: str
    width: int
    decimals: int
    unit: str
    words: str


def write_mrt(path: Path, table: Table) -> None:
    """Write a table as MRT: a description byte by byte, and then a line per row.

    Numbers have the digits that it takes to read the same bits again, as F where all of a column
    can be written without a power of ten, and as E otherwise. NaN and what is missing are blank.
    The format is ASCII, one line per row: accents are left out of text, other characters become
    ``_``, and the ends of lines blanks. Labels have no blanks.
    """
    from galfig.tables.formats import warn_of_change

    labels = make_distinct(_NOT_IN_LABEL.sub("_", name_in_ascii(name)) for name in table.columns)
    changed = [name for name, label in zip(table.columns, labels, strict=True) if name != label]
    warn_of_change(path, "labels are ASCII without blanks; changed", changed)
    cells = {name: read_cells(column) for name, column in table.columns.items()}
    changed = [name for name, one in cells.items() if one.kind == "text" and _is_changed(one)]
    warn_of_change(path, "text is ASCII in one line; changed in", changed)
    fields = [
        _lay_out(cells[name], label, column.unit, column.description)
        for (name, column), label in zip(table.columns.items(), labels, strict=True)
    ]
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.writelines(f"{line}\n" for line in _describe(table, fields))
        for start in range(0, len(table), _BLOCK):
            rows = slice(start, start + _BLOCK)
            written = [list(_iter_cells(field, rows)) for field in fields]
            file.writelines(
                f"{' '.join(row)}".rstrip() + "\n" for row in zip(*written, strict=True)
            )


def _is_changed(cells: Cells) -> bool:
    return any(text != _flatten(text) for text in cells.values.tolist())


def _flatten(text: str) -> str:
    """Return a text in ASCII and in one line."""
    return " ".join(name_in_ascii(" ".join(text.split())).split()) if text else ""


def _lay_out(cells: Cells, label: str, unit: str, description: str) -> _Field:
    """Find the format and the width of a column."""
    words = _flatten(description) or label
    known = _spell_unit(unit)
    if unit and known == "---":
        words = f"{words} [{_flatten(unit)}]"
    hidden = cells.is_missing
    if cells.kind == "number":
        hidden = hidden | np.isnan(cells.values)
    if hidden.any():
        words = f"? {words}"
    if cells.kind != "number":
        form = "I" if cells.kind == "integer" else "A"
        width = max((len(text) for text in _iter_plain(cells)), default=0) or 1
        return _Field(cells, label, f"{form}{width}", width, 0, known, words)
    texts = [text for text in iter_texts(cells) if text]
    if any("e" in text for text in texts):
        digits = max(len(_split_mantissa(text)) for text in texts)
        width = max(len(f"{float(text):.{digits - 1}E}") for text in texts)
        return _Field(cells, label, f"E{width}.{digits - 1}", width, digits - 1, known, words)
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    width = max((len(f"{float(text):.{decimals}f}") for text in texts), default=1)
    return _Field(cells, label, f"F{width}.{decimals}", width, decimals, known, words)


def _split_mantissa(text: str) -> str:
    """Return the significant digits of a number."""
    return text.lower().partition("e")[0].replace(".", "").lstrip("-+0").rstrip("0") or "0"


def _iter_plain(cells: Cells, rows: slice = slice(None)) -> Iterator[str]:
    texts = iter_texts(cells, rows)
    return map(_flatten, texts) if cells.kind == "text" else texts


def _iter_cells(field: _Field, rows: slice) -> Iterator[str]:
    """Yield the cells of a column in its width."""
    if field.cells.kind != "number":
        is_left = field.cells.kind == "text"
        for text in _iter_plain(field.cells, rows):
            yield text.ljust(field.width) if is_left else text.rjust(field.width)
        return
    letter = "E" if field.form.startswith("E") else "f"
    for text in iter_texts(field.cells, rows):
        words = f"{float(text):.{field.decimals}{letter}}" if text else ""
        yield words.rjust(field.width)


def _spell_unit(unit: str) -> str:
    """Return a unit as CDS spells it; "---" for none, and for one that CDS does not know."""
    from astropy.units import Unit

    if not unit:
        return "---"
    try:
        with quiet():
            spelt = str(Unit(unit).to_string("cds"))
    except (ValueError, TypeError):
        return "---"
    return spelt if spelt and _NOT_IN_LABEL.search(spelt) is None else "---"


def _describe(table: Table, fields: Sequence[_Field]) -> Iterator[str]:
    """Yield the lines above the data."""
    creator = f"galfig {table.meta.get('galfig_version', '')}".strip()
    yield f"Title: {_flatten(table.title)}"
    yield "Authors:"
    yield f"Table: {_flatten(table.title)}"
    yield _HEAVY
    yield "Byte-by-byte Description of file: table.dat"
    yield _RULE
    yield _HEADING
    yield _RULE
    n_bytes = len(str(sum(field.width + 1 for field in fields)))
    widths = [max(len(text) for text in texts) for texts in zip(*_list_words(fields), strict=True)]
    start = 1
    for field in fields:
        stop = start + field.width - 1
        place = f"{start:{n_bytes}d}-{stop:{n_bytes}d}"
        if start == stop:
            place = f"{start:{2 * n_bytes + 1}d}"
        words = zip((field.form, field.unit, field.label), widths, strict=True)
        head = f" {place} {' '.join(word.ljust(width) for word, width in words)} "
        yield from _wrap(head, field.words)
        start = stop + 2
    yield _RULE
    yield from textwrap.wrap(f"Note (1): Written by {creator}; blank where unknown.", _WIDTH)
    yield _RULE


def _list_words(fields: Sequence[_Field]) -> list[tuple[str, str, str]]:
    return [(field.form, field.unit, field.label) for field in fields]


def _wrap(head: str, words: str) -> list[str]:
    """Put words behind a head, in lines that begin below their first."""
    room = max(_WIDTH - len(head), 20)
    first, *others = textwrap.wrap(words, room)
    return [f"{head}{first}", *(f"{' ' * len(head)}{line}" for line in others)]
