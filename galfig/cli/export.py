"""``galfig export``."""

from pathlib import Path

import click

from galfig.cli import options
from galfig.cli.usage import Command
from galfig.runtime.files import ErrorOrReplace


@click.command(cls=Command)
@click.argument("store", type=click.Path(path_type=Path, dir_okay=False), default="maps.h5")
@click.option(
    "--crate",
    type=click.Path(path_type=Path),
    metavar="FOLDER|FILE.zip",
    help="Put the store and what belongs to it into an RO-Crate, for an archive such as Zenodo.",
)
@click.option(
    "--include",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="A file that belongs into the crate, such as the checkpoint, an audit or a figure, or the "
    "folder of a manuscript; may be repeated.",
)
@options.config_option
@options.if_exists_options()
@options.standard_options
def export(
    store: Path,
    crate: Path | None,
    include: tuple[Path, ...],
    config: Path | None,
    if_exists: ErrorOrReplace,
) -> None:
    """Write files for the journal and the archive from STORE.

    The table [publication] of the settings gives the crate title, authors and licence.

    \b
    Examples:
      galfig export maps.h5 --crate crate --include model.safetensors
      galfig export maps.h5 --crate crate.zip --include maps.audit.h5 --include paper
    """
    from galfig.export.crate import write_crate

    if crate is None:
        raise click.UsageError("nothing to export; give --crate")
    click.echo(write_crate(store, crate, include, settings=config, if_exists=if_exists))
