"""Columns of a catalog, read as exact text or as numbers; errors name the offending cell."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galfig.errors import CatalogError
from galfig.runtime.messages import quote, shorten, suggest

EMPTY_CELLS = ["", "NA", "N/A", "n/a", "nan", "NaN", "-nan", "null", "NULL", "None", "<NA>", "--"]


def require_column(table: pd.DataFrame, name: str, path: Path, setting: str) -> None:
    """Raise an error that suggests the nearest column name if a column is missing.

    Parameters
    ----------
    table : DataFrame
        The catalog.
    name : str
        Name of the column.
    path : Path
        Path of the catalog, for the message.
    setting : str
        Setting that names the column, such as "[catalog] id", for the message.

    Raises
    ------
    CatalogError
        If the column is missing.
    """
    if name not in table.columns:
        columns = [str(column) for column in table.columns]
        hint = suggest(name, columns, f"it has {shorten(columns)}")
        raise CatalogError(f"{path}: no column {name!r}, expected by {setting}; {hint}")


def read_texts(table: pd.DataFrame, column: str, path: Path, setting: str) -> list[str]:
    """Return a column as text without surrounding whitespace.

    Parameters
    ----------
    table : DataFrame
        The catalog, with N rows.
    column : str
        Name of the column.
    path : Path
        Path of the catalog, for messages.
    setting : str
        Setting that names the column, for messages.

    Returns
    -------
    list of str
        N texts, "" where a cell is empty.

    Raises
    ------
    CatalogError
        If the column is missing, or a cell is neither text nor a whole number.
    """
    require_column(table, column, path, setting)
    texts = []
    for row, cell in enumerate(table[column], start=1):
        try:
            texts.append(_as_text(cell))
        except (TypeError, UnicodeDecodeError) as exc:
            raise CatalogError(
                f"{path}: row {row}, column {column!r}: {quote(cell)}, "
                "expected text or a whole number"
            ) from exc
    return texts


def read_numbers(table: pd.DataFrame, column: str, path: Path, setting: str) -> NDArray[np.float64]:
    """Return a column as numbers.

    Parameters
    ----------
    table : DataFrame
        The catalog, with N rows.
    column : str
        Name of the column.
    path : Path
        Path of the catalog, for messages.
    setting : str
        Setting that names the column, for messages.

    Returns
    -------
    (N,) ndarray of float64
        NaN where a cell is empty.

    Raises
    ------
    CatalogError
        If the column is missing, or a cell is not a number.
    """
    require_column(table, column, path, setting)
    series = table[column]
    if series.dtype.kind in "iuf":
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
    numbers = np.empty(len(series))
    for row, cell in enumerate(series):
        try:
            numbers[row] = _as_number(cell)
        except (TypeError, ValueError, OverflowError) as exc:
            hint = " with a decimal point and no thousands separators"
            hint = hint if "," in str(cell) else ""
            raise CatalogError(
                f"{path}: row {row + 1}, column {column!r}: {quote(cell)}, expected a number{hint}"
            ) from exc
    return numbers


def _as_text(cell: Any) -> str:
    """Return a cell as text without surrounding whitespace, "" where it is empty."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, bytes):
        return cell.decode().strip()
    if not pd.api.types.is_scalar(cell):
        raise TypeError("neither text nor a number")
    if pd.isna(cell):
        return ""
    if isinstance(cell, float | np.floating):
        raise TypeError("a float has lost digits, or shows some that are not there")
    return str(cell).strip()


def _as_number(cell: Any) -> float:
    """Return a cell as a number, NaN where it is empty; Python's exact parser reads text."""
    if isinstance(cell, bytes):
        cell = cell.decode()
    if isinstance(cell, str):
        text = cell.strip()
        # Python's parser also accepts '1_000' and the digits of other scripts.
        if "_" in text or not text.isascii():
            raise ValueError("no number")
        return np.nan if not text or text in EMPTY_CELLS else float(text)
    if isinstance(cell, int | float | np.integer | np.floating | Decimal):
        if isinstance(cell, bool):
            raise TypeError("no number")
        return float(cell)
    if pd.api.types.is_scalar(cell) and pd.isna(cell):
        return np.nan
    raise TypeError("no number")
