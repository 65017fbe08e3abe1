"""``galfig export``."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galfig.cli import options
from galfig.cli.usage import Command
from galfig.runtime.files import ErrorOrReplace, check_output

if TYPE_CHECKING:
    from galfig.figures.registry import Opener
    from galfig.store.selection import Query


@click.command(cls=Command)
@click.argument("store", type=click.Path(path_type=Path, dir_okay=False), default="maps.h5")
@click.option(
    "--table",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Table of the galaxies to write: .fits, .csv, .ecsv, .vot, .xml, .parquet or .mrt.",
)
@click.option(
    "--maps",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Cutouts and maps of the galaxies to write, .fits, an extension each.",
)
@click.option(
    "--crate",
    type=click.Path(path_type=Path),
    metavar="FOLDER|FILE.zip",
    help="Put the store and what belongs to it into an RO-Crate, for an archive such as Zenodo.",
)
@options.selection_options(n=None, split="all")
@click.option(
    "--statistics/--no-statistics",
    default=True,
    help="Whether the table has statistics of each map, for which all are read.  [default: yes]",
)
@click.option(
    "--ra", metavar="COLUMN", help="Column with the right ascension [deg].  [default: ra]"
)
@click.option("--dec", metavar="COLUMN", help="Column with the declination [deg].  [default: dec]")
@click.option(
    "--north-up",
    is_flag=True,
    help="Images whose orientation the store does not know have north up and east to the left, and "
    "all have the galaxy's position in their centre: write sky coordinates.",
)
@click.option(
    "--include",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="A file that belongs into the crate, such as the checkpoint, an audit or a figure, or the "
    "folder of a manuscript; may be repeated.",
)
@options.again_options
@options.config_option
@options.if_exists_options()
@options.standard_options
def export(
    store: Path,
    table: Path | None,
    maps: Path | None,
    crate: Path | None,
    query: "Query",
    statistics: bool,
    ra: str | None,
    dec: str | None,
    north_up: bool,
    include: tuple[Path, ...],
    opener: "Opener",
    config: Path | None,
    if_exists: ErrorOrReplace,
) -> None:
    """Write files for other programs, the journal and the archive from STORE.

    The table has the columns of the catalog, split, true and predicted class, probabilities, loss
    and statistics of the maps. STORE is what build-maps wrote, maps.h5 by default. Without options
    that select galaxies, all are written, in the order of the store. A crate holds the whole store;
    [publication] of the settings gives it title, authors and licence.

    \b
    Examples:
      galfig export maps.h5 --table galaxies.fits
      galfig export maps.h5 --table wrong.csv --wrong --sort loss
      galfig export maps.h5 --objid @picks.txt --maps figure3.fits --table figure3.mrt
      galfig export maps.h5 --crate crate.zip --include model.safetensors --include paper
    """
    from galfig.export.main import check_maps, export_maps, export_table, select_rows
    from galfig.tables.formats import check_table

    # What is asked for of galaxies, each by its file.
    writers = []
    if table is not None:
        check_table(table)
        writers.append((table, partial(export_table, statistics=statistics)))
    if maps is not None:
        check_maps(maps)
        writers.append((maps, partial(export_maps, ra=ra, dec=dec, north_up=north_up)))
    if not writers and crate is None:
        raise click.UsageError("nothing to write; give --table FILE, --maps FILE or --crate FOLDER")
    if table is not None and table == maps:
        raise click.UsageError("--maps FILE holds the table of its galaxies; give another --table")
    for path, _ in writers:
        check_output(path, if_exists=if_exists)
    if crate is not None:
        from galfig.export.crate import write_crate

        click.echo(write_crate(store, crate, include, settings=config, if_exists=if_exists))
    if not writers:
        return
    if query.split is None and not query.objids:
        query = replace(query, split="all")
    with opener(store) as opened:
        rows = select_rows(opened, query)
        for path, write in writers:
            click.echo(write(opened, path, rows, if_exists=if_exists))
