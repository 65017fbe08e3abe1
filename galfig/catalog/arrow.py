"""Arrow: catalogs in Parquet, Feather and other files of Arrow, measured before they are decoded.

A value that many rows share is stored once: a few kilobytes can hold a billion rows.
"""

import io
import itertools
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galfig.catalog.limits import check_size
from galfig.errors import CatalogError
from galfig.runtime.messages import one_line, shorten, suggest

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

# Arrow's file format begins with this; its stream format has no such mark.
_FILE_MAGIC = b"ARROW1"
# Columns of arrays with more elements than this do not become columns of numbers.
MAX_ELEMENTS = 32
_ELEMENT = re.compile(r"(?P<array>.+)\[\d+\]", re.DOTALL)


class Wanted(NamedTuple):
    """The columns that are read of a catalog; all others stay on disk where that is possible.

    Attributes
    ----------
    asked : tuple of str
        Columns that somebody asked for, which must be there.
    others : collection of str
        Columns that are read where they are there.
    """

    asked: tuple[str, ...]
    others: Collection[str] = ()

    def choose(self, names: Sequence[str], path: Path) -> list[str]:
        """Return those of the columns of a file that are read, in its order.

        A column of arrays, ``NAME``, is read for any of its elements ``NAME[i]``.

        Raises
        ------
        CatalogError
            If a column that was asked for is missing.
        """
        there = {name.strip() for name in names}
        wanted = {*self.asked, *self.others}
        wanted |= {_name_array(name) for name in wanted}
        self._require(
            [name for name in self.asked if not {name, _name_array(name)} & there], names, path
        )
        return [name for name in names if name.strip() in wanted]

    def drop_others(self, table: pd.DataFrame, path: Path) -> pd.DataFrame:
        """Return a table without the columns that nobody asked for.

        Raises
        ------
        CatalogError
            If a column that was asked for is missing.
        """
        names = list(table.columns)
        there = {*names, *map(_name_array, names)}
        self._require([name for name in self.asked if name not in there], names, path)
        wanted = {*self.asked, *self.others}
        kept = [name in wanted or _name_array(name) in wanted for name in names]
        return table if all(kept) else table.loc[:, kept]

    def _require(self, missing: Sequence[str], names: Sequence[str], path: Path) -> None:
        if missing:
            hint = suggest(missing[0], names, f"it has {shorten(names)}")
            raise CatalogError(
                f"{path}: no column {missing[0]!r}, asked for by [catalog] columns; {hint}"
            )


def _name_array(name: str) -> str:
    """Return the name of the column of arrays that ``NAME[i]`` is an element of."""
    found = _ELEMENT.fullmatch(name)
    return name if found is None else found["array"]


def read_parquet(data: bytes | BinaryIO, path: Path, wanted: Wanted | None = None) -> pd.DataFrame:
    """Read Parquet; a named index, which may hold the identifiers, becomes a column.

    Parameters
    ----------
    data : bytes or BinaryIO
        The file, or its content.
    path : Path
        Its path, for messages.
    wanted : Wanted, optional
        The columns to read; by default, all.

    Returns
    -------
    DataFrame
        Integers stay exact where cells are empty (pandas' nullable types).

    Raises
    ------
    CatalogError
        If the table takes too much memory, or lacks a column that was asked for.
    """
    return make_frame([read_chosen(data, path, wanted)])


def read_chosen(
    data: bytes | BinaryIO,
    path: Path,
    wanted: Wanted | None = None,
    *,
    n_before: int = 0,
    is_plain: bool = False,
) -> "pa.Table":
    """Read some columns of a file of Parquet, once it is known how much memory they take.

    Parameters
    ----------
    data, path, wanted
        As of `read_parquet`.
    n_before : int, default 0
        What other parts of the catalog take already [byte].
    is_plain : bool, default False
        Read columns of numbers, truth values and texts only.

    Returns
    -------
    pyarrow.Table
    """
    with _open_parquet(data) as file:
        names = file.schema_arrow.names
        chosen = names if wanted is None else wanted.choose(names, path)
        if is_plain:
            plain = {field.name for field in file.schema_arrow if _is_plain(field.type)}
            chosen = [name for name in chosen if name in plain]
        texts = _measure_parquet(file, chosen, path, n_before)
    if texts:
        with _open_parquet(data, read_dictionary=texts) as file:
            packed = file.read(columns=texts, use_threads=False)
        check_size(n_before + _measure_texts(packed), path, "decoded")
        del packed
    with _open_parquet(data) as file:
        return file.read(columns=chosen, use_threads=False, use_pandas_metadata=True)


def _open_parquet(
    data: bytes | BinaryIO, read_dictionary: Sequence[str] = ()
) -> "parquet.ParquetFile":
    """Open Parquet so that no thread of Arrow reads it.

    Such a thread may still let go of the file when Python ends, which aborts the process.
    """
    from pyarrow import parquet

    return parquet.ParquetFile(
        _rewind(data), read_dictionary=list(read_dictionary), pre_buffer=False
    )


def _is_plain(kind: "pa.DataType") -> bool:
    from pyarrow import types

    return types.is_primitive(kind) or types.is_string(kind) or types.is_large_string(kind)


def _rewind(data: bytes | BinaryIO) -> BinaryIO:
    if isinstance(data, bytes):
        return io.BytesIO(data)
    data.seek(0)
    return data


def make_frame(tables: "list[pa.Table]") -> pd.DataFrame:
    """Make one table of pandas of tables of Arrow, which are used up on the way.

    Numbers are converted a column at a time, so that the memory holds each once.

    Parameters
    ----------
    tables : list of pyarrow.Table
        Tables of the same columns; the list is emptied.

    Returns
    -------
    DataFrame
    """
    import pyarrow as pa

    table = pa.concat_tables(tables, promote_options="default")
    tables.clear()
    types, words = _map_types(), _read_words(table.schema)
    described = (table.schema.pandas_metadata or {}).get("index_columns", [])
    index = {name for name in described if isinstance(name, str)}
    is_number = [
        field.type in types
        and field.name not in index
        and not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type))
        for field in table.schema
    ]
    names = table.schema.names
    numbers = {at: table.column(at) for at in np.flatnonzero(is_number).tolist()}
    rest = table.select([at for at, is_so in enumerate(is_number) if not is_so])
    del table
    frame = rest.to_pandas(types_mapper=types.get)
    del rest
    frame = frame.reset_index(drop=frame.index.names == [None])
    # An index stands before all other columns.
    n_index = frame.shape[1] - sum(
        not is_so and name not in index for is_so, name in zip(is_number, names, strict=True)
    )
    columns: list[tuple[object, pd.Series]] = []
    others = iter(list(frame.items()))
    columns += itertools.islice(others, n_index)
    for at, name in enumerate(names):
        if at in numbers:
            column = numbers.pop(at)
            columns.append((name, pd.Series(types[column.type].__from_arrow__(column))))
        elif name not in index:
            columns.append(next(others))
    joined = pd.DataFrame(dict(enumerate(one for _, one in columns)), copy=False)
    joined.columns = pd.Index([name for name, _ in columns], dtype=object)
    expanded = _expand_lists(joined)
    expanded.attrs.update(words)
    return expanded


def _read_words(schema: "pa.Schema") -> dict[str, dict[str, str]]:
    """Return units and descriptions, by column, in the metadata of fields as galfig writes them."""
    found: dict[str, dict[str, str]] = {"units": {}, "descriptions": {}}
    for field in schema:
        for key, words in found.items():
            text = (field.metadata or {}).get(key[:-1].encode())
            if text:
                words[field.name] = one_line(text.decode("utf-8", "replace"))
    return found


def _map_types() -> dict[Any, Any]:
    """Return pandas' types for those of Arrow: whole numbers stay exact beside an empty cell."""
    import pyarrow as pa

    integers = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    naturals = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    return {
        **{kind: pd.api.types.pandas_dtype(f"Int{kind.bit_width}") for kind in integers},
        **{kind: pd.api.types.pandas_dtype(f"UInt{kind.bit_width}") for kind in naturals},
        pa.bool_(): pd.BooleanDtype(),
        pa.float32(): pd.Float32Dtype(),
        pa.float64(): pd.Float64Dtype(),
        pa.string(): pd.StringDtype(),
        pa.large_string(): pd.StringDtype(),
    }


def read_feather(data: bytes, path: Path) -> pd.DataFrame:
    """Read Feather, or a file or a stream of Arrow.

    Parameters
    ----------
    data : bytes
        The file.
    path : Path
        Its path, for messages.

    Returns
    -------
    DataFrame
        As from `read_parquet`.

    Raises
    ------
    CatalogError
        If the table takes too much memory, or the file is of the first version of Feather.
    """
    from pyarrow import ipc

    if data.startswith(_FILE_MAGIC):
        with ipc.open_file(io.BytesIO(data)) as file:
            batches = (file.get_batch(index) for index in range(file.num_record_batches))
            tables = [_collect(batches, file.schema, path)]
    elif data.startswith(b"FEA1"):
        raise CatalogError(f"{path}: Feather of version 1, expected version 2; write it again")
    else:
        with ipc.open_stream(io.BytesIO(data)) as stream:
            tables = [_collect(stream, stream.schema, path)]
    return make_frame(tables)


def _collect(batches: object, schema: "pa.Schema", path: Path) -> "pa.Table":
    """Return the batches of a file as one table, measured one by one."""
    import pyarrow as pa

    found, n_bytes = [], 0
    for batch in batches:  # type: ignore[attr-defined]
        found.append(batch)
        n_bytes += _measure(pa.Table.from_batches([batch]))
        check_size(n_bytes, path, "decoded")
    return pa.Table.from_batches(found, schema)


def _measure(table: "pa.Table") -> int:
    """Return the size of a table [byte] once texts that rows share are written out."""
    return int(table.nbytes) + _measure_texts(table)


def _measure_texts(table: "pa.Table") -> int:
    """Return the size of the texts of a table [byte], those that rows share for every row."""
    import pyarrow as pa
    from pyarrow import compute

    kinds = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
    n_bytes = 0
    for chunk in itertools.chain.from_iterable(column.chunks for column in table.columns):
        is_packed = pa.types.is_dictionary(chunk.type)
        if (chunk.type.value_type if is_packed else chunk.type) not in kinds:
            continue
        lengths = compute.binary_length(chunk.dictionary if is_packed else chunk)
        lengths = lengths.take(chunk.indices) if is_packed else lengths
        n_bytes += compute.sum(lengths.cast(pa.int64())).as_py() or 0
    return n_bytes


def _measure_parquet(
    file: "parquet.ParquetFile", chosen: Sequence[str], path: Path, n_before: int
) -> list[str]:
    """Check what some columns take at least when they are decoded; return those of texts."""
    import pyarrow as pa

    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    n_plain, wanted = n_before, set(chosen)
    for group in groups:
        for index in range(group.num_columns):
            chunk = group.column(index)
            place = chunk.path_in_schema
            # The members of a struct or list have paths of their own.
            if place in wanted or place.partition(".")[0] in wanted:
                n_plain += max(8 * chunk.num_values, chunk.total_uncompressed_size)
    check_size(n_plain, path, "decoded")
    kinds = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
    types = {field.name: field.type for field in file.schema_arrow if field.name in wanted}
    plain = {
        name: kind.value_type if pa.types.is_dictionary(kind) else kind
        for name, kind in types.items()
    }
    return [name for name, kind in plain.items() if kind in kinds]


def _expand_lists(table: pd.DataFrame) -> pd.DataFrame:
    """Turn columns of short lists of one length into a column ``NAME[i]`` for each element."""
    parts: dict[int, pd.Series] = {}
    names: list[object] = []
    for name, series in table.items():
        vector = _as_vector(series)
        found = [(name, series)]
        if vector is not None:
            found = [(f"{name}[{i}]", pd.Series(cells)) for i, cells in enumerate(vector.T)]
        for label, column in found:
            parts[len(parts)] = column
            names.append(label)
    expanded = pd.DataFrame(parts, copy=False)
    expanded.columns = pd.Index(names, dtype=object)
    return expanded


def _as_vector(series: pd.Series) -> NDArray[Any] | None:
    """Return the cells of a column of short lists of one length, (N, n); None of any other."""
    if series.dtype != object or not len(series) or not isinstance(series.iloc[0], np.ndarray):
        return None
    is_array = all(isinstance(cell, np.ndarray) and cell.dtype.kind in "iufb" for cell in series)
    if not is_array or len({len(cell) for cell in series}) != 1:
        return None
    return np.stack(list(series)) if 0 < len(series.iloc[0]) <= MAX_ELEMENTS else None
