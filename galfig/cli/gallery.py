"""``galfig gallery``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from galfig.cli import options
from galfig.cli.usage import Command
from galfig.runtime.files import ErrorOrReplace

if TYPE_CHECKING:
    from galfig.figures.registry import Opener
    from galfig.store.selection import Query


@click.command(cls=Command)
@click.argument("store", type=click.Path(path_type=Path, dir_okay=False), default="maps.h5")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="gallery",
    show_default=True,
    help="Folder to write; open index.html in it.",
)
@options.selection_options(n=None)
@options.classes_option
@click.option(
    "--thumbnail",
    type=options.Integer(min=16, max=512),
    default=96,
    show_default=True,
    help="Largest side of a thumbnail [pixel]; cutouts are never enlarged.",
)
@click.option(
    "--quality",
    type=options.Integer(min=1, max=100),
    default=70,
    show_default=True,
    help="Quality of the compression of the thumbnails (WebP).",
)
@click.option("--cmap", help="Colour map of the maps, by matplotlib's name.  [default: inferno]")
@options.config_option
@options.again_options
@options.if_exists_options()
@options.standard_options
def gallery(
    store: Path,
    out: Path,
    query: "Query",
    classes: tuple[str, ...],
    thumbnail: int,
    quality: int,
    cmap: str | None,
    config: Path | None,
    opener: "Opener",
    if_exists: ErrorOrReplace,
) -> None:
    """Make a page to browse the galaxies of STORE with their maps.

    The page needs neither a server nor a network: open it from the disk, or put the folder on any
    web server or on Zenodo. It filters, sorts, and keeps picks, which other commands take. STORE is
    what build-maps wrote, maps.h5 by default.

    \b
    Examples:
      galfig gallery maps.h5 --out gallery
      galfig gallery maps.h5 --split all --sort loss --out all-galaxies
      galfig gallery maps.h5 --where "z < 0.1" --thumbnail 64 --overwrite
      galfig gallery statistics.h5 --model model.safetensors --images cutouts
    """
    from galfig.config import load_settings
    from galfig.gallery.main import write_gallery

    settings = load_settings(config, {("style", "cmap"): cmap})
    page = write_gallery(
        store,
        query,
        out,
        classes=classes,
        thumbnail=thumbnail,
        quality=quality,
        style=settings.figure_style,
        if_exists=if_exists,
        opener=opener,
    )
    click.echo(page)
