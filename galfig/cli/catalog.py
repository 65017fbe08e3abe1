"""``galfig catalog``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from galfig.cli import options
from galfig.cli.usage import Group
from galfig.runtime.files import ErrorOrReplace


@click.group(cls=Group)
def catalog() -> None:
    """Make a catalog of images that have none.

    \b
    Examples:
      galfig catalog from-folders images --out catalog.csv
    """


@catalog.command("from-folders")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="catalog.csv",
    show_default=True,
    help="Catalog to write.",
)
@options.if_exists_options()
@options.standard_options
def from_folders(folder: Path, out: Path, if_exists: ErrorOrReplace) -> None:
    """Write a catalog of images that lie in a folder for each class.

    DIR holds the folders of the classes, or train, valid and test with these folders in each. The
    settings for galfig.toml, with which the catalog is read, go to the standard output.

    \b
    Examples:
      galfig catalog from-folders images --out catalog.csv > galfig.toml
      galfig catalog from-folders images --out catalog.csv --overwrite
    """
    from galfig.catalog.folders import catalog_from_folders

    click.echo(_write_toml(catalog_from_folders(folder, out, if_exists=if_exists)), nl=False)


def _write_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write tables of texts as TOML."""
    import json

    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "".join(f"{line}\n" for line in lines)
