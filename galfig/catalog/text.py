"""Text: catalogs of text, with commas, tabs, blanks or columns of fixed width.

Files of commas, tabs or blanks are streamed into pandas. Those that describe themselves (CDS and
VizieR, the AAS's machine-readable tables, IPAC, SExtractor) and those of fixed width are read by
astropy, every cell as text, and then take the same way. So a cell means the same in each.
"""

import contextlib
import csv
import io
import itertools
import logging
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import pandas as pd

from galfig.catalog.arrow import Wanted
from galfig.catalog.columns import EMPTY_CELLS
from galfig.errors import CatalogError
from galfig.runtime.messages import quote, shorten

logger = logging.getLogger(__name__)

# Before version 3, pandas rounds the last digit of some numbers unless it is told not to; since
# then, it warns when it is told.
EXACT_FLOATS: dict[str, Any] = (
    {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}
)
# Longest name of a column [byte] and longest cell [character].
MAX_NAME, MAX_CELL = 1000, 131_072
_UNNAMED = re.compile(r"Unnamed: \d+(\.\d+)?")
# Lines from which the layout of a file is found.
_N_HEAD = 300
# Share of the lines that must have one number of cells.
_SHARE = 0.8
# Formats that begin with a description of the table, and how they are known.
_DESCRIBED = (
    ("Mrt", re.compile(r"^\s*Byte-by-byte Description of file", re.MULTILINE | re.IGNORECASE)),
    ("SExtractor", re.compile(r"\A\s*#\s*1\s+[A-Za-z_]\w*")),
    ("Ipac", re.compile(r"\A(?:\\[^\n]*\n)*(?:\|[^\n]*\|\s*\n)+(?= *[^|\s])")),
    ("FixedWidthTwoLine", re.compile(r"\A[^\n]*\w[^\n]*\n\s*[-=]+(?:\s+[-=]+)+\s*\n")),
)
_DELIMITERS = ("\t", ",", ";", "|", " ")
# Types that archives write below the header.
_TYPES = re.compile(
    r"char|string|str|text|u?int(8|16|32|64)?|long|short|byte|float(32|64)?|double|real|"
    r"bool(ean)?|object|date(time)?|number|[<>|=]?[aAbifuUSM]\d+",
    re.IGNORECASE,
)


class Wish(NamedTuple):
    """What is asked of a table of text.

    Attributes
    ----------
    id_column : str
        Column of the identifiers.
    text_columns : collection of str
        Columns that are text even where they look like numbers, as the identifiers are.
    names : tuple of str or None
        Names of the columns of a file without a header line.
    faults : dict of int to str or None
        Filled with the reason for each row that cannot be read, by its number from 1; such a row
        is then empty. With None, the first of them is an error.
    wanted : Wanted or None
        The columns to parse; None for all.
    """

    id_column: str
    text_columns: Collection[str] = ()
    names: tuple[str, ...] | None = None
    faults: dict[int, str] | None = None
    wanted: Wanted | None = None


class _Layout(NamedTuple):
    """How the rows of a file lie: column names, delimiter, and the lines above the first row."""

    names: list[str]
    delimiter: str
    n_lines: int


def read_text(data: bytes, path: Path, suffix: str, wish: Wish) -> pd.DataFrame:
    """Read a table of text.

    Parameters
    ----------
    data : bytes
        The file, in UTF-8.
    path : Path
        Its path, for messages.
    suffix : str
        ".csv" for commas; ".tsv" for tabs; with any other, the layout is found.
    wish : Wish
        What is asked of it.

    Returns
    -------
    DataFrame
        N rows; columns of integers stay exact where cells are empty.

    Raises
    ------
    CatalogError
        If the file is not UTF-8, has no header line, or has rows of different lengths.
    """
    try:
        with _open_text(data) as stream:
            head = list(itertools.islice(stream, _N_HEAD))
        if suffix == ".csv":
            delimiter: str | None = ","
        else:
            if (described := _find_description(head)) and wish.names is None:
                return _read_described(data, path, described, wish)
            delimiter = _find_delimiter(head, wish)
        if delimiter is None:
            table = _read_fixed_width(data, path, wish, is_required=not _is_nearly_even(head))
            if table is not None:
                return table
            delimiter = " "
        if delimiter in (" ", "|"):
            data = _normalise(data, delimiter)
            with _open_text(data) as stream:
                head = list(itertools.islice(stream, _N_HEAD))
        layout = _find_layout(head, delimiter, path, wish)
        return _read_rows(data, path, layout, wish)
    except UnicodeDecodeError as exc:
        separated = "comma-separated " if suffix == ".csv" else ""
        raise CatalogError(
            f"{path}: line {_find_undecodable(data)} is not UTF-8, expected {separated}"
            "text in UTF-8; save it in that encoding"
        ) from exc


def name_columns(names: Iterable[object], path: Path) -> list[str]:
    """Return column names that the store can hold.

    Parameters
    ----------
    names : iterable
        Names as they are in the file; in Parquet they may be numbers. A column without one is
        called ``Unnamed: 0`` for the first column, as pandas does.
    path : Path
        Path of the catalog, for messages.

    Returns
    -------
    list of str

    Raises
    ------
    CatalogError
        If a name holds a NUL, is too long, or appears twice.
    """
    texts = [str(name).strip() for name in names]
    taken = set(texts)
    for index, text in enumerate(texts):
        # pandas writes its index without a name, and reads it as "Unnamed: 0": written again, there
        # are two of them, which mean nothing.
        is_again = _UNNAMED.fullmatch(text) is not None and text in texts[:index]
        if not text or is_again:
            stem = text or f"Unnamed: {index}"
            choices = itertools.chain([stem], (f"{stem}.{n}" for n in itertools.count(1)))
            texts[index] = next(choice for choice in choices if choice not in taken)
            taken.add(texts[index])
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


def _find_description(head: Sequence[str]) -> str | None:
    """Return astropy's reader for a file that describes its columns, by name, or None."""
    words = "".join(line.replace("\r\n", "\n") for line in head)
    return next((name for name, pattern in _DESCRIBED if pattern.search(words)), None)


def _find_delimiter(head: Sequence[str], wish: Wish) -> str | None:
    """Return the delimiter that gives the lines the same number of cells; None if there is none.

    Blanks must do so for all lines: columns of fixed width have them, too, inside their cells.
    """
    lines = [line for line in head if line.strip() and not line.startswith("#")]
    counts = {}
    for delimiter in _DELIMITERS:
        cells = [len(_split(line, delimiter)) for line in lines]
        # One of the lines may be bad, or cut where the head ends.
        found, n_lines = Counter(cells).most_common(1)[0] if cells else (1, 0)
        if found > 1 and n_lines >= (1 if delimiter == " " else _SHARE) * len(cells):
            counts[delimiter] = found
    if wish.names is not None:
        return next((char for char, n in counts.items() if n == len(wish.names)), " ")
    tops = [line.lstrip("# \t") for line in head if line.startswith("#")] + lines[:1]
    having = [char for char in counts if any(wish.id_column in _split(top, char) for top in tops)]
    if having or counts:
        return (having or list(counts))[0]
    # One column of identifiers needs no delimiter.
    return " " if all(len(line.split()) == 1 for line in lines) else None


def _is_nearly_even(head: Sequence[str]) -> bool:
    """Return whether blanks give most of the lines the same number of cells."""
    counts = Counter(len(line.split()) for line in head if line.strip() and line[0] != "#")
    return max(counts.values()) >= _SHARE * sum(counts.values())


def _split(line: str, delimiter: str) -> list[str]:
    """Split one line into its cells, without the blanks around them."""
    if delimiter == " ":
        line = " ".join(line.split())
    cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    return [cell.strip() for cell in cells]


def _normalise(data: bytes, delimiter: str) -> bytes:
    """Put one blank between cells, or no bar around them, and leave out comments in the rows."""
    with _open_text(data) as stream:
        lines = [" ".join(line.split()) for line in stream]
    start = next((i for i, line in enumerate(lines) if line and not line.startswith("#")), 0)
    body = [line for line in lines[start:] if line and not line.startswith("#")]
    if delimiter == "|" and all(line[0] == line[-1] == "|" for line in body):
        body = [line[1:-1] for line in body]
    return "\n".join([*lines[:start], *body, ""]).encode()


def _find_layout(head: Sequence[str], delimiter: str, path: Path, wish: Wish) -> _Layout:
    """Find the column names and the first row, below comments, units, types and rules."""
    start = 0
    while start < len(head) and (head[start].startswith("#") or not head[start].strip()):
        start += 1
    reader = csv.reader(head[start:], delimiter=delimiter, skipinitialspace=True)
    first = [cell.strip() for cell in next(reader, [])]
    if wish.names is not None:
        if len(first) != len(wish.names):
            raise CatalogError(
                f"{path}: {len(first)} cells in the first line, and [catalog] names has "
                f"{len(wish.names)}, expected a name for each column"
            )
        return _Layout(name_columns(wish.names, path), delimiter, start)
    comments = [_split(line.lstrip("# \t"), delimiter) for line in head[:start] if line.strip()]
    named = next((cells for cells in comments if wish.id_column in cells), (comments or [[]])[-1])
    is_named = wish.id_column not in first and (
        wish.id_column in named or (len(named) == len(first) > 1 and _is_galaxy(first))
    )
    if is_named:
        names, n_lines = named, start
    else:
        names, n_lines = first, start + reader.line_num
    if not any(names):
        raise CatalogError(f"{path}: empty, expected a header line with column names")
    if wish.id_column not in names and _is_galaxy(names):
        raise CatalogError(
            f"{path}: the first line looks like a galaxy, not like the names of columns: "
            f"{shorten(names)}; give the names in [catalog] names, or write them above it"
        )
    names = name_columns(names, path)
    separator = next((char for char in ";\t| " if char in names[0]), None)
    if len(names) == 1 and separator is not None and wish.id_column not in names:
        expected = "commas" if delimiter == "," else repr(delimiter)
        raise CatalogError(
            f"{path}: one column {quote(names[0])}, expected {expected} between columns, "
            f"not {separator!r}"
        )
    rows, ends = _split_rows(head[n_lines:], delimiter)
    n_rows = _count_units(rows, len(names))
    n_passed = ends[n_rows - 1] if n_rows else 0
    if n_passed:
        logger.warning(
            "%s: passed over what looks like units or a rule below the header: %s",
            path,
            ", ".join(quote(line.strip()) for line in head[n_lines : n_lines + n_passed]),
        )
    return _Layout(names, delimiter, n_lines + n_passed)


def _split_rows(lines: Sequence[str], delimiter: str) -> tuple[list[list[str]], list[int]]:
    """Return the first rows, blank lines left out, and the number of lines to the end of each."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows, ends = [], []
    # The last row may be cut where the head ends.
    with contextlib.suppress(csv.Error):
        for row in reader:
            if len(row) > 1 or any(row):
                rows.append([cell.strip() for cell in row])
                ends.append(reader.line_num)
    return rows, ends


def _is_galaxy(cells: Sequence[str]) -> bool:
    """Return whether any cell of a line is a number, as no name of a column is."""
    return any(_is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    with contextlib.suppress(ValueError):
        float(cell)
        return cell.strip() not in EMPTY_CELLS
    return False


def _count_units(rows: Sequence[Sequence[str]], n_columns: int) -> int:
    """Count the rows at the start that hold units, types or a rule instead of a galaxy."""
    # A rule ends the header of VizieR and others; units, if any, stand above it.
    for index, row in enumerate(rows[:3]):
        if any(row) and all(re.fullmatch(r"[-=]*", cell) for cell in row):
            return index + 1
    n_passed = 0
    while n_passed < min(2, len(rows) - 1):
        row, others = rows[n_passed], rows[n_passed + 1 :]
        is_blank = len(row) == n_columns > 1 and not any(row)
        if not (is_blank or _is_units(row, others)):
            break
        n_passed += 1
    return n_passed


def _is_units(row: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Return whether a row has only units or types above columns of numbers."""
    n_found = 0
    for index, cell in enumerate(row):
        below = [other[index] for other in others if len(other) > index]
        below = [text for text in below if text not in EMPTY_CELLS]
        if cell in EMPTY_CELLS or not below or not all(map(_is_number, below)):
            continue
        if not _is_unit(cell):
            return False
        n_found += 1
    return n_found > 0


def _is_unit(cell: str) -> bool:
    """Return whether a cell is a unit or the name of a type."""
    if _is_number(cell):
        return False
    if _TYPES.fullmatch(cell) or cell.lower() in {"none", "-", "unitless", "dimensionless"}:
        return True
    from astropy import units

    # VizieR writes logarithms in brackets, and positions in hours as "h:m:s".
    cell = cell.strip("'\"")
    while inner := re.fullmatch(r"(?:log(?:10)?)?[\[(](.*)[\])]", cell):
        cell = inner[1]
    if re.fullmatch("[hdms:]+", cell):
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = units.Unit(cell, parse_strict="silent")
        except (ValueError, TypeError):
            return False
    return not isinstance(found, units.UnrecognizedUnit)


def _read_rows(data: bytes, path: Path, layout: _Layout, wish: Wish) -> pd.DataFrame:
    """Read the rows of a file whose layout is known."""
    with _open_rows(data, layout) as stream:
        n_rows, faults = _count_rows(stream, layout, path)
    if faults and wish.faults is None:
        raise CatalogError(f"{path}: {next(iter(faults.values()))}")
    if len(faults) > n_rows - len(faults):
        raise CatalogError(f"{path}: {next(iter(faults.values()))}")
    if n_rows in faults and not data.endswith((b"\n", b"\r")):
        raise CatalogError(f"{path}: {faults[n_rows]}; the file seems to be cut short")
    with _open_rows(data, layout) as stream:
        rows = _leave_out(stream, layout, path, faults) if faults else stream
        table = _parse(rows, layout, wish)
    if len(table) < n_rows - len(faults):
        raise CatalogError(
            f"{path}: {len(table)} of {n_rows} rows can be read, expected all; close every quote"
        )
    if faults and wish.faults is not None:
        lines = {row: words.removeprefix(f"row {row}") for row, words in faults.items()}
        wish.faults.update({row: words.lstrip(",: ") for row, words in lines.items()})
        table.index = pd.Index([row for row in range(1, n_rows + 1) if row not in faults])
        table = table.reindex(range(1, n_rows + 1)).reset_index(drop=True)
    return table


def _parse(stream: IO[str], layout: _Layout, wish: Wish) -> pd.DataFrame:
    """Have pandas read the rows, identifiers and other texts as they are."""
    texts = {wish.id_column, *wish.text_columns}
    table = pd.read_csv(
        stream,
        sep=layout.delimiter,
        header=None,
        names=layout.names,
        index_col=False,
        usecols=_choose(layout, wish),
        skipinitialspace=True,
        dtype={name: "string" for name in layout.names if name in texts},
        # Set for each column but the texts, so that a galaxy called 'NA' keeps its name.
        keep_default_na=False,
        na_values={name: EMPTY_CELLS for name in layout.names if name not in texts},
        dtype_backend="numpy_nullable",
        **EXACT_FLOATS,
        # pandas would otherwise infer a type for each chunk of a column.
        low_memory=False,
    )
    # pandas skips blanks before a cell, and keeps those behind it.
    for name in table.columns[table.dtypes == "string"]:
        table[name] = table[name].str.strip()
    return table


def _choose(layout: _Layout, wish: Wish) -> list[str]:
    """Return the columns to parse; all, so that a message may list them, if one is missing."""
    if wish.wanted is None or not {wish.id_column, *wish.wanted.asked} <= {*layout.names}:
        return layout.names
    found = {wish.id_column, *wish.wanted.asked, *wish.wanted.others}
    return [name for name in layout.names if name in found]


def _count_rows(stream: IO[str], layout: _Layout, path: Path) -> tuple[int, dict[int, str]]:
    """Count the rows, and describe those with a wrong number of cells or with a NUL."""
    n_rows, n_columns = 0, len(layout.names)
    faults = {}
    cells: list[str] = []
    for cells in _iter_rows(stream, layout, path):
        if not (len(cells) > 1 or any(cells)):
            # A blank line; of one column, it is an empty cell, which pandas passes over too.
            continue
        n_rows += 1
        # Before version 3, pandas ends a text at a NUL without a word.
        if "\0" in "".join(cells):
            column = next(index for index, cell in enumerate(cells) if "\0" in cell)
            name = quote(layout.names[column]) if column < n_columns else column + 1
            faults[n_rows] = (
                f"row {n_rows}, column {name}: {quote(cells[column])}, expected text without NUL"
            )
        elif len(cells) != n_columns:
            found = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            faults[n_rows] = f"row {n_rows}: {found}, expected {n_columns} as in the header"
            if any("\n" in cell for cell in cells):
                # A quote that is never closed makes one cell of all the rows that follow.
                raise CatalogError(f"{path}: {faults[n_rows]}; close every quote")
    if cells and "\n" in cells[-1]:
        raise CatalogError(f"{path}: row {n_rows}: {quote(cells[-1])}; close every quote")
    return n_rows, faults


def _leave_out(
    stream: IO[str], layout: _Layout, path: Path, faults: Collection[int]
) -> io.StringIO:
    """Write the rows anew without some of them."""
    kept = io.StringIO()
    writer = csv.writer(kept, delimiter=layout.delimiter, lineterminator="\n")
    cells = (row for row in _iter_rows(stream, layout, path) if len(row) > 1 or any(row))
    writer.writerows(row for number, row in enumerate(cells, start=1) if number not in faults)
    kept.seek(0)
    return kept


def _iter_rows(stream: IO[str], layout: _Layout, path: Path) -> Iterator[list[str]]:
    """Give the rows of a file; a cell beyond the limit of the csv module is an error."""
    rows = csv.reader(stream, delimiter=layout.delimiter, skipinitialspace=True)
    try:
        yield from rows
    except csv.Error as exc:
        if "field larger" not in str(exc):
            raise
        raise CatalogError(
            f"{path}: line {rows.line_num} after the header: a cell of more than {MAX_CELL} "
            "characters, expected fewer; close every quote, or leave this column out"
        ) from exc


def _open_text(data: bytes) -> IO[str]:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")


def _open_rows(data: bytes, layout: _Layout) -> IO[str]:
    """Open a file at its first row."""
    stream = _open_text(data)
    for _ in range(layout.n_lines):
        stream.readline()
    return stream


def _find_undecodable(data: bytes) -> int:
    """Return the number, from 1, of the first line that is not UTF-8."""
    number = 0
    with contextlib.suppress(UnicodeDecodeError):
        for line in io.BytesIO(data):
            number += 1
            line.decode()
    return number


def _read_described(data: bytes, path: Path, form: str, wish: Wish) -> pd.DataFrame:
    """Read a file that describes its columns through astropy, every cell as text."""
    from astropy.io import ascii as astropy_ascii
    from astropy.table import Table

    def keep_texts(cols: Sequence[Any], meta: object) -> Table:
        return Table({col.name: _take_texts(col) for col in cols})

    reader = astropy_ascii.get_reader(getattr(astropy_ascii, form))
    # astropy would turn the texts into numbers, and "01" into 1.
    reader.outputter = keep_texts
    with warnings.catch_warnings():
        # The error that follows already reports a damaged file.
        warnings.simplefilter("ignore")
        table = reader.read(data.decode("utf-8-sig").splitlines())
    rows = list(zip(*(table[name].tolist() for name in table.colnames), strict=True))
    return _type_texts(table.colnames, rows, path, wish)


def _take_texts(col: Any) -> list[str]:
    """Return the texts of a column of astropy's reader, "" where they are masked."""
    masked = getattr(col, "mask", None)
    if masked is None:
        return [text.strip() for text in col.str_vals]
    return ["" if m else text.strip() for text, m in zip(col.str_vals, masked, strict=True)]


def _read_fixed_width(
    data: bytes, path: Path, wish: Wish, *, is_required: bool
) -> pd.DataFrame | None:
    """Read columns that lie below their names; if they do not, it is an error, or None."""
    lines = [line.rstrip() for line in data.decode("utf-8-sig").splitlines() if line.strip()]
    start = 0
    while start < len(lines) - 1 and lines[start + 1].startswith("#"):
        start += 1
    # The last comment names the columns, unless a line without "#" does.
    start += lines[start].startswith("#") and wish.id_column not in lines[start].split()
    header = lines[start].replace("#", " ", 1)
    body = [line for line in lines[start + 1 :] if not line.startswith("#")]
    words = list(re.finditer(r"\S+", header))
    starts, ends = [word.start() for word in words], [word.end() for word in words]
    if all(line[: starts[0]].strip() == "" for line in body) and _is_blank(body, starts[1:], -1):
        bounds = list(zip(starts, [*starts[1:], None], strict=True))
    elif _is_blank(body, ends, 0):
        bounds = list(zip([0, *ends[:-1]], ends, strict=True))
    elif not is_required:
        return None
    else:
        raise CatalogError(
            f"{path}: lines with different numbers of cells, and columns that do not lie below "
            f"their names: {shorten([word[0] for word in words])}; expected commas, tabs or blanks "
            "between columns, or columns of fixed width"
        )
    rows = [[line[first:last].strip() for first, last in bounds] for line in body]
    return _type_texts([word[0] for word in words], rows, path, wish)


def _is_blank(lines: Sequence[str], places: Sequence[int], shift: int) -> bool:
    """Return whether every line has a blank, or has ended, at all of some places."""
    return all(line[at + shift : at + shift + 1].strip() == "" for line in lines for at in places)


def _type_texts(
    names: Sequence[str], rows: Sequence[Sequence[str]], path: Path, wish: Wish
) -> pd.DataFrame:
    """Make a table of rows of text, whose types pandas finds as in any other file."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows(rows[_count_units(rows[:_N_HEAD], len(names)) :])
    stream.seek(0)
    return _parse(stream, _Layout(name_columns(names, path), ",", 0), wish)
