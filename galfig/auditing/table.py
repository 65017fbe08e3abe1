"""The tables of an audit: its numbers beside their controls, and its galaxies as files."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from galfig.figures.audits import format_estimate, name_number
from galfig.records import Measured
from galfig.runtime.documents import dump_json
from galfig.runtime.files import replace_file
from galfig.runtime.messages import WIDTH, wrap_item
from galfig.store.audits import TEXTS, Audit, GalaxyColumn

# Suffixes of the tables of galaxies, in place of that of the audit.
SUFFIXES = (".parquet", ".ecsv")


def format_audit(audit: Audit) -> str:
    """Write an audit as text: a table of its numbers, what to keep in mind, and the verdict.

    Parameters
    ----------
    audit : Audit
        The audit.

    Returns
    -------
    str
        Lines. Each number has its 95 % interval behind it; its controls, after "vs", are below.
    """
    rows = [("number, and vs its controls", "value [95 % interval]")]
    for name, measured in audit.measures.items():
        rows += _list_rows(name, measured)
    width = max(len(row[0]) for row in rows) + 2
    # A long value moves to the left, into the space behind a short name.
    lines = [f"{row[0]:{min(width, WIDTH - len(row[1]))}}{row[1]}".rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    notes = [f"{name}: {note}" for name, found in audit.measures.items() for note in found.notes]
    blocks = ["\n".join(lines)]
    if notes:
        blocks.append("\n".join(["Notes", *map(wrap_item, notes)]))
    blocks.append("\n".join(["Verdict", *map(wrap_item, audit.verdict)]))
    return "\n\n".join(blocks)


def describe_audit(audit: Audit) -> dict[str, Any]:
    """Return everything in an audit as JSON can hold it.

    Parameters
    ----------
    audit : Audit
        The audit.

    Returns
    -------
    dict
        Its record, measures and table of galaxies, the verdict first.
    """
    return {
        "verdict": list(audit.verdict),
        **audit.record.model_dump(mode="python", exclude={"verdict"}),
        "measures": {
            name: measured.model_dump(mode="python", exclude={"name", "per_galaxy"})
            for name, measured in audit.measures.items()
        },
        "galaxies": {name: list(column.values) for name, column in audit.columns.items()},
    }


def list_tables(path: Path) -> list[Path]:
    """Return the tables of galaxies that belong to an audit."""
    return [path.with_suffix(suffix) for suffix in SUFFIXES]


def write_tables(path: Path, columns: Mapping[str, GalaxyColumn], meta: Mapping[str, Any]) -> None:
    """Write the table of galaxies as Parquet and ECSV beside an audit, replacing older ones.

    Parameters
    ----------
    path : Path
        The audit, whose suffix they replace.
    columns : mapping of str to GalaxyColumn
        The table.
    meta : mapping
        What it was made from, as JSON can hold it.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    parquet, ecsv = list_tables(path)
    with replace_file(parquet, if_exists="replace") as temporary:
        _write_parquet(temporary, columns, meta)
    with replace_file(ecsv, if_exists="replace") as temporary:
        # astropy would write the file in the encoding of the locale.
        temporary.write_text(_write_ecsv(columns, meta), encoding="utf-8")


def _list_rows(name: str, measured: Measured) -> Iterator[tuple[str, str]]:
    """Yield the rows of a measure: its name, its numbers, and its controls."""
    yield name, {None: "", True: "passes", False: "FAILS"}[measured.passes]
    for key, estimate in measured.numbers.items():
        yield f" {name_number(key, estimate)}", format_estimate(estimate)
    for key, estimate in measured.controls.items():
        yield f"  vs {name_number(key, estimate)}", format_estimate(estimate)


def _write_parquet(
    path: Path, columns: Mapping[str, GalaxyColumn], meta: Mapping[str, Any]
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    fields, arrays = [], []
    for name, column in columns.items():
        kind = pa.string() if name in TEXTS else pa.float64()
        described = {"unit": column.unit, "description": column.description}
        fields.append(pa.field(name, kind, metadata=described))
        arrays.append(pa.array(list(column.values), kind))
    schema = pa.schema(fields, metadata={"galfig": dump_json(meta)})
    stream = io.BytesIO()
    parquet.write_table(pa.table(arrays, schema=schema), stream)
    # Arrow takes no path that is not UTF-8, and gives no number of an error of the disk.
    path.write_bytes(stream.getvalue())


def _write_ecsv(columns: Mapping[str, GalaxyColumn], meta: Mapping[str, Any]) -> str:
    from astropy.table import Table

    # Plain lists and dicts, since YAML would tag all other Python types.
    table = Table(meta={"galfig": json.loads(dump_json(meta))})
    for name, column in columns.items():
        table[name] = np.asarray(column.values, str if name in TEXTS else np.float64)
        table[name].description = column.description
        table[name].unit = column.unit or None
    stream = io.StringIO()
    table.write(stream, format="ascii.ecsv")
    return stream.getvalue()
