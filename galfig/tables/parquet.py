"""Parquet: columns with their units and descriptions in the metadata of the fields."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from galfig.runtime.documents import dump_json
from galfig.tables.columns import Cells, Table, read_cells
from galfig.tables.conversion import make_astropy

# Rows of a group, which are converted and written at a time.
_GROUP = 1 << 17


def write_parquet(path: Path, table: Table) -> None:
    """Write a table as Parquet.

    The metadata of a field are ``unit`` and ``description``; those of the file are ``title`` and
    ``galfig``, what it was made from as JSON. What is missing is null; NaN stays NaN.
    """
    import pyarrow as pa
    from pyarrow import parquet

    columns = {name: read_cells(column) for name, column in table.columns.items()}
    fields = [
        pa.field(
            name,
            _find_type(columns[name]),
            metadata={"unit": column.unit, "description": column.description},
        )
        for name, column in table.columns.items()
    ]
    meta = {"title": table.title, "galfig": dump_json(table.meta)}
    schema = pa.schema(fields, metadata={**meta, **_describe_for_astropy(table, columns)})
    # Arrow takes no path that is not UTF-8, and gives no number of an error of the disk.
    with path.open("wb") as file, parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, max(1, len(table)), _GROUP):
            rows = slice(start, start + _GROUP)
            arrays = [
                pa.array(cells.values[rows], field.type, mask=cells.is_missing[rows])
                for cells, field in zip(columns.values(), fields, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=_GROUP)


def _describe_for_astropy(table: Table, columns: Mapping[str, Cells]) -> dict[str, str]:
    """Return the metadata by which astropy knows units, descriptions and the lengths of text."""
    from astropy.table.meta import get_yaml_from_table

    lengths = {
        f"table::len::{name}": str(max(map(len, cells.values.tolist()), default=0) or 1)
        for name, cells in columns.items()
        if cells.kind == "text"
    }
    empty = {
        name: column._replace(values=columns[name].values[:0])
        for name, column in table.columns.items()
    }
    described = make_astropy(replace(table, columns=empty))
    return {**lengths, "table_meta_yaml": "\n".join(get_yaml_from_table(described))}


def _find_type(cells: Cells) -> Any:
    """Return the type of Arrow of some cells."""
    import pyarrow as pa

    if cells.kind == "text":
        return pa.string()
    return pa.bool_() if cells.kind == "truth" else pa.from_numpy_dtype(cells.values.dtype)
