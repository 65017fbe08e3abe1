"""``galfig subset``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from galfig.cli import options
from galfig.cli.usage import Command
from galfig.runtime.files import ErrorOrReplace

if TYPE_CHECKING:
    from galfig.store.selection import Query


@click.command(cls=Command)
@click.argument("store", type=click.Path(path_type=Path, dir_okay=False), default="maps.h5")
@options.selection_options(n=None)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="subset.h5",
    show_default=True,
    help="Store to write.",
)
@options.if_exists_options()
@options.standard_options
def subset(store: Path, query: "Query", out: Path, if_exists: ErrorOrReplace) -> None:
    """Write a small store with some galaxies of STORE, to draw figures again.

    A figure of the galaxies that are named by --objid has the same bytes from both stores. STORE is
    what build-maps wrote, maps.h5 by default.

    \b
    Examples:
      galfig subset maps.h5 --objid @picks.txt --out fig3.h5
      galfig subset maps.h5 --n 5 --zmin 0.05 --zmax 0.08 --out fig3.h5
      galfig render fig3.h5 --objid @fig3.h5 --out fig3.pdf
    """
    from galfig.export.main import subset as write_subset
    from galfig.store.reader import open_store
    from galfig.store.selection import select_galaxies

    with open_store(store) as opened:
        rows = select_galaxies(opened, query).indices
        click.echo(write_subset(opened, out, rows, if_exists=if_exists))
