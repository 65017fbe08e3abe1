"""The tables of an audit: its numbers beside their controls, and its galaxies as files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from galfig.figures.audits import format_estimate, name_number
from galfig.records import Measured
from galfig.runtime.messages import WIDTH, wrap_item
from galfig.store.audits import Audit, GalaxyColumn
from galfig.tables.columns import Column, Table
from galfig.tables.formats import write_table

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
    table = Table(
        "Galaxies of an audit", {name: Column(*column) for name, column in columns.items()}, meta
    )
    for file in list_tables(path):
        write_table(file, table, if_exists="replace")


def _list_rows(name: str, measured: Measured) -> Iterator[tuple[str, str]]:
    """Yield the rows of a measure: its name, its numbers, and its controls."""
    yield name, {None: "", True: "passes", False: "FAILS"}[measured.passes]
    for key, estimate in measured.numbers.items():
        yield f" {name_number(key, estimate)}", format_estimate(estimate)
    for key, estimate in measured.controls.items():
        yield f"  vs {name_number(key, estimate)}", format_estimate(estimate)
