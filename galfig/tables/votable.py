"""VOTable: the XML format of the Virtual Observatory."""

import re
from pathlib import Path

from galfig.runtime.documents import dump_json
from galfig.tables.columns import Table, read_cells
from galfig.tables.conversion import make_astropy, quiet

# Characters that XML 1.0 cannot hold, in whatever spelling.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def write_votable(path: Path, table: Table) -> None:
    """Write a table as VOTable, with its origin in elements INFO."""
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    from galfig.tables.formats import warn_of_change

    changed = [
        name
        for name, column in table.columns.items()
        if (cells := read_cells(column)).kind == "text"
        and any(map(_ILLEGAL.search, cells.values.tolist()))
    ]
    warn_of_change(path, "control characters, which XML cannot hold, are written \\x..", changed)
    with quiet():
        made = make_astropy(table, _escape)
        made.meta.clear()
        document = from_table(made)
        resource = document.resources[0]
        resource.description = _escape(table.title)
        for name, value in (
            ("creator", f"galfig {table.meta.get('galfig_version', '')}".strip()),
            ("galfig", dump_json(table.meta)),
        ):
            resource.infos.append(Info(name=name, value=_escape(value)))
        document.to_xml(str(path))


def _escape(text: str) -> str:
    return _ILLEGAL.sub(lambda found: repr(found[0])[1:-1], text)
