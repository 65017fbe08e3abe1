"""Parquet: images in a column of a table, read one group of rows at a time.

Hugging Face's data sets hold image files in such a column, as bytes or as a struct with them;
MultimodalUniverse holds fluxes, as lists of lists.
"""

import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galfig.images.decoders import UnusableError
from galfig.runtime.inputs import open_regular
from galfig.runtime.messages import one_line

SUFFIXES = (".parquet", ".pq")
# The members of a struct that hold an image: a file, or fluxes.
_MEMBERS = ("bytes", "flux", "array", "image")
# Largest group of rows of one column that is unpacked [byte].
MAX_GROUP = 1 << 30
_LOCK = threading.Lock()


def list_image_columns(path: Path) -> tuple[dict[str, int], int]:
    """List the columns of a file that may hold images.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    columns : dict of str to int
        Their positions, by name.
    n_rows : int
        Number of rows.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not Parquet.
    """
    with open_regular(path) as file:
        table = _open(file)
        schema = table.schema_arrow
        names = {name: index for index, name in enumerate(schema.names)}
        found = {name: at for name, at in names.items() if _may_hold_images(schema.field(at).type)}
        return found, int(table.metadata.num_rows)


def read_cell(path: Path, column: str, row: int, stamp: tuple[int, int]) -> bytes | NDArray[Any]:
    """Read the image of a row.

    Parameters
    ----------
    path : Path
        The file.
    column : str
        The column.
    row : int
        Position of the row.
    stamp : (int, int)
        Time and size of the file, which tell it from another of its name.

    Returns
    -------
    bytes or ndarray
        An image file; or fluxes, (H, W) or (B, H, W).

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If there is no such row, its cell is empty, or holds no image.
    """
    with _LOCK:
        starts = _find_groups(path, stamp)
        group = int(np.searchsorted(starts, row, side="right")) - 1
        if not 0 <= row < starts[-1]:
            raise UnusableError("no such row, expected the one that was listed")
        cells = _read_group(path, column, group, stamp)
        cell = cells[row - int(starts[group])]
    return _take_image(cell)


def _take_image(cell: Any) -> bytes | NDArray[Any]:
    """Return the image in a cell, as pyarrow reads it."""
    value = cell.as_py()
    if isinstance(value, Mapping):
        value = next((value[name] for name in _MEMBERS if value.get(name) is not None), None)
    if isinstance(value, bytes):
        return value
    if value is None:
        raise UnusableError("an empty cell, expected an image")
    try:
        return np.array(value, dtype=np.float32)
    except (ValueError, TypeError) as exc:
        raise UnusableError(f"lists of unequal length ({one_line(exc)[:80]})") from exc


def _may_hold_images(kind: Any) -> bool:
    import pyarrow.types as kinds

    if kinds.is_struct(kind):
        members = [kind.field(index) for index in range(kind.num_fields)]
        return any(m.name in _MEMBERS and _may_hold_images(m.type) for m in members)
    if kinds.is_binary(kind) or kinds.is_large_binary(kind):
        return True
    depth = 0
    while kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth in (2, 3) and (kinds.is_floating(kind) or kinds.is_integer(kind))


def _open(file: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A thread of Arrow may still let go of the file when Python ends, which aborts the process.
        return pq.ParquetFile(file, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as exc:
        if getattr(exc, "errno", None):
            raise
        raise ValueError(f"not Parquet, or damaged: {one_line(exc)}") from exc


@lru_cache(maxsize=4)
def _find_groups(path: Path, stamp: tuple[int, int]) -> NDArray[np.int64]:
    """Return the first row of each group, and the number of rows."""
    with open_regular(path) as file:
        metadata = _open(file).metadata
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@lru_cache(maxsize=2)
def _read_group(path: Path, column: str, group: int, stamp: tuple[int, int]) -> Any:
    """Read a column of a group of rows; neighbours ask for the same group."""
    import pyarrow as pa

    with open_regular(path) as file:
        table = _open(file)
        part = table.metadata.row_group(group)
        sizes = [part.column(index) for index in range(part.num_columns)]
        n_bytes = sum(
            one.total_uncompressed_size
            for one in sizes
            if one.path_in_schema.split(".")[0] == column
        )
        if n_bytes > MAX_GROUP:
            raise UnusableError(
                f"a group of rows of {n_bytes / 1e9:.1f} GB, expected at most "
                f"{MAX_GROUP / 1e9:.1f}; write the file with smaller row groups"
            )
        try:
            return table.read_row_group(group, columns=[column], use_threads=False).column(0)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as exc:
            if getattr(exc, "errno", None):
                raise
            raise ValueError(f"cannot be decoded ({one_line(exc)})") from exc
