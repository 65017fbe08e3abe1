"""The tables of an audit: its numbers beside their controls, and its galaxies as files."""

import io
import json
import textwrap
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from galfig.figures.audits import format_numbers
from galfig.records import Estimate, Measured
from galfig.runtime.documents import dump_json
from galfig.runtime.files import replace_file
from galfig.store.audits import TEXTS, Audit, GalaxyColumn

# Suffixes of the tables of galaxies, in place of that of the audit.
SUFFIXES = (".parquet", ".ecsv")
_WIDTH = 100


def format_audit(audit: Audit) -> str:
    """Write an audit as text: a table of its numbers, what to keep in mind, and the verdict.

    Parameters
    ----------
    audit : Audit
        The audit.

    Returns
    -------
    str
        Lines. Each number is followed by its 95 % interval; controls are in the right half.
    """
    rows = [("measure", "number", "value [95 % interval]", "control", "value [95 % interval]")]
    for name, measured in audit.measures.items():
        rows += _list_rows(name, measured)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    notes = [f"{name}: {note}" for name, found in audit.measures.items() for note in found.notes]
    blocks = ["\n".join(lines)]
    if notes:
        blocks.append("\n".join(["Notes", *map(_wrap, notes)]))
    blocks.append("\n".join(["Verdict", *map(_wrap, audit.verdict)]))
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


def format_estimate(estimate: Estimate) -> str:
    """Write a number with its interval, such as 0.461 [0.447, 0.475]."""
    value, low, high = format_numbers(estimate)
    return f"{value} [{low}, {high}]"


def _list_rows(name: str, measured: Measured) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the rows of a measure: numbers to the left, controls to the right."""
    titles = [name] if measured.passes is None else [name, "passes" if measured.passes else "FAILS"]
    pairs = zip_longest(titles, measured.numbers.items(), measured.controls.items())
    for title, number, control in pairs:
        cells = [
            word
            for item in (number, control)
            for word in (("", "") if item is None else (_spell(item[0]), format_estimate(item[1])))
        ]
        yield (title or "", cells[0], cells[1], cells[2], cells[3])


def _spell(key: str) -> str:
    """Write the key of a number as words."""
    return key.replace("_", " ")


def _wrap(words: str) -> str:
    return textwrap.fill(words, _WIDTH, initial_indent="- ", subsequent_indent="  ")


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
    parquet.write_table(pa.table(arrays, schema=schema), path)


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
