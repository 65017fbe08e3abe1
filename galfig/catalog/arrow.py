"""Arrow: catalogs in Parquet, Feather and other files of Arrow, measured before they are decoded.

A value that many rows share is stored once: a few kilobytes can hold a billion rows.
"""

import io
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from galfig.catalog.limits import check_size
from galfig.errors import CatalogError

if TYPE_CHECKING:
    import pyarrow as pa

# Arrow's file format begins with this; its stream format has no such mark.
_FILE_MAGIC = b"ARROW1"
# Columns of arrays with more elements than this do not become columns of numbers.
MAX_ELEMENTS = 32


def read_parquet(data: bytes, path: Path) -> pd.DataFrame:
    """Read Parquet; a named index, which may hold the identifiers, becomes a column.

    Parameters
    ----------
    data : bytes
        The file.
    path : Path
        Its path, for messages.

    Returns
    -------
    DataFrame
        Integers stay exact where cells are empty (pandas' nullable types).

    Raises
    ------
    CatalogError
        If the table takes too much memory.
    """
    _check_parquet(data, path)
    table = pd.read_parquet(io.BytesIO(data), dtype_backend="numpy_nullable")
    return _expand_lists(table.reset_index(drop=table.index.names == [None]))


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
    import pyarrow as pa
    from pyarrow import ipc

    if data.startswith(_FILE_MAGIC):
        with ipc.open_file(io.BytesIO(data)) as file:
            batches = (file.get_batch(index) for index in range(file.num_record_batches))
            table = _collect(batches, file.schema, path)
    elif data.startswith(b"FEA1"):
        raise CatalogError(f"{path}: Feather of version 1, expected version 2; write it again")
    else:
        with ipc.open_stream(io.BytesIO(data)) as stream:
            table = _collect(stream, stream.schema, path)
    integers = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    naturals = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    types = {
        **{kind: pd.api.types.pandas_dtype(f"Int{kind.bit_width}") for kind in integers},
        **{kind: pd.api.types.pandas_dtype(f"UInt{kind.bit_width}") for kind in naturals},
        pa.bool_(): pd.BooleanDtype(),
        pa.float32(): pd.Float32Dtype(),
        pa.float64(): pd.Float64Dtype(),
        pa.string(): pd.StringDtype(),
        pa.large_string(): pd.StringDtype(),
    }
    frame = table.to_pandas(types_mapper=types.get)
    return _expand_lists(frame.reset_index(drop=frame.index.names == [None]))


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


def _check_parquet(data: bytes, path: Path) -> None:
    """Raise CatalogError if a Parquet file takes too much memory when it is decoded."""
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(io.BytesIO(data)) as file:
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
        n_plain = sum(max(8 * chunk.num_values, chunk.total_uncompressed_size) for chunk in chunks)
        check_size(n_plain, path, "decoded")
        kinds = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
        types = {field.name: field.type for field in file.schema_arrow}
    plain = {
        name: kind.value_type if pa.types.is_dictionary(kind) else kind
        for name, kind in types.items()
    }
    texts = [name for name, kind in plain.items() if kind in kinds]
    table = parquet.read_table(io.BytesIO(data), columns=texts, read_dictionary=texts)
    check_size(_measure_texts(table), path, "decoded")


def _expand_lists(table: pd.DataFrame) -> pd.DataFrame:
    """Turn columns of short lists of one length into a column ``NAME[i]`` for each element."""
    parts: dict[object, pd.Series] = {}
    for name, series in table.items():
        lengths = {len(cell) for cell in series if isinstance(cell, np.ndarray)}
        is_vector = (
            series.dtype.kind == "O"
            and len(lengths) == 1
            and all(isinstance(cell, np.ndarray) and cell.dtype.kind in "iufb" for cell in series)
        )
        if is_vector and 0 < (length := lengths.pop()) <= MAX_ELEMENTS:
            cells = np.stack(list(series))
            parts |= {f"{name}[{i}]": pd.Series(cells[:, i]) for i in range(length)}
        else:
            parts[name] = series
    return pd.DataFrame(parts)
