"""Columns: what a table holds before it is written in some format."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Kind = Literal["text", "integer", "number", "truth"]


class Column(NamedTuple):
    """A column of a table.

    Attributes
    ----------
    values : array_like
        (n,) numbers, truth values or text. Missing ones are masked, in an array of `numpy.ma`;
        a missing number may also be NaN.
    description : str
        What the values are.
    unit : str
        Unit as astropy spells it; "" for dimensionless numbers and for logits, which astropy does
        not know.
    """

    values: ArrayLike
    description: str
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """A table, and what it was made from.

    Attributes
    ----------
    title : str
        What it holds, in a few words.
    columns : mapping of str to Column
        The columns by name, in order; all of the same length.
    meta : mapping of str to Any
        What it was made from, as JSON can hold it.
    name : str, default "DATA"
        Name of its extension in a file of FITS.
    """

    title: str
    columns: Mapping[str, Column]
    meta: Mapping[str, Any] = field(default_factory=dict)
    name: str = "DATA"

    def __len__(self) -> int:
        return max((len(np.asarray(column.values)) for column in self.columns.values()), default=0)


class Cells(NamedTuple):
    """The cells of a column, of one of a few types.

    Attributes
    ----------
    kind : {"text", "integer", "number", "truth"}
        What they are.
    values : (n,) ndarray
        Text as objects (str), without halves of characters; numbers in their own type.
    is_missing : (n,) ndarray of bool
        Where there is none; NaN is none of these.
    """

    kind: Kind
    values: NDArray[Any]
    is_missing: NDArray[np.bool_]


def read_cells(column: Column) -> Cells:
    """Return the cells of a column.

    Parameters
    ----------
    column : Column
        The column.

    Returns
    -------
    Cells
    """
    array = column.values if isinstance(column.values, np.ndarray) else np.asarray(column.values)
    is_missing = np.ma.getmaskarray(array)
    values = np.asarray(array)
    if values.dtype.kind == "f":
        return Cells("number", values, is_missing)
    if values.dtype.kind in "iu":
        return Cells("integer", values, is_missing)
    if values.dtype.kind == "b":
        return Cells("truth", values, is_missing)
    texts: NDArray[np.object_] = np.empty(len(values), dtype=object)
    texts[:] = [_to_text(cell) for cell in values.tolist()]
    is_none = np.array([cell is None for cell in values.tolist()], dtype=bool)
    texts[is_missing] = ""
    return Cells("text", texts, is_missing | is_none)


def _to_text(cell: object) -> str:
    """Return a cell as text that UTF-8 can hold: a half of a character is written as its code."""
    text = "" if cell is None else str(cell)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def name_in_ascii(text: str) -> str:
    """Return a name in printable ASCII: accents are left out, and other characters become ``_``."""
    plain = unicodedata.normalize("NFKD", text)
    letters = (char for char in plain if not unicodedata.combining(char))
    return "".join(char if " " <= char <= "~" else "_" for char in letters) or "_"


def make_distinct(names: Iterable[str], most: int | None = None) -> list[str]:
    """Return names that differ in more than capitals; one that comes again has its number.

    Parameters
    ----------
    names : iterable of str
        The names.
    most : int, optional
        The most characters that a name may have, to which longer ones are cut off.

    Returns
    -------
    list of str
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        distinct, number = name[:most], 1
        while distinct.casefold() in taken:
            number += 1
            end = f"_{number}"
            distinct = f"{name if most is None else name[: most - len(end)]}{end}"
        taken.add(distinct.casefold())
        found.append(distinct)
    return found
