"""``galfig render``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from galfig.cli import options
from galfig.cli.usage import Command
from galfig.runtime.files import ErrorOrReplace

if TYPE_CHECKING:
    from galfig.config import StyleSettings
    from galfig.figures.registry import Opener
    from galfig.runtime.options import MapKind
    from galfig.store.selection import Query


@click.command(cls=Command)
@click.argument(
    "store",
    type=click.Path(path_type=Path, dir_okay=False),
    default="maps.h5",
)
@options.selection_options(n=5)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="panels.pdf",
    show_default=True,
    help="Figure to write: .pdf, .png or .svg; captions go beside it.",
)
@options.classes_option
@options.map_option
@options.figure_options
@options.style_options
@options.again_options
@options.if_exists_options()
@options.standard_options
def render(
    store: Path,
    query: "Query",
    out: Path,
    classes: tuple[str, ...],
    map: "MapKind | None",
    width: str | None,
    data: Path | None,
    style: "StyleSettings",
    opener: "Opener",
    if_exists: ErrorOrReplace,
) -> None:
    """Draw galaxies from STORE with their maps, one row each.

    A row shows the cutout and the map of each class; of more than four classes, it shows two. STORE
    is what build-maps wrote, maps.h5 by default; nothing else is needed, unless it was built with
    --store native or --store statistics.

    \b
    Examples:
      galfig render --n 5 --zmin 0.05 --zmax 0.08
      galfig render --true high --wrong --sort loss --where "oh_p50 > 9.15"
      galfig render maps.h5 --objid 1237665024900858129 --out figure1.png
      galfig render statistics.h5 --model model.safetensors --images cutouts
    """
    from galfig.figures.registry import render_figure

    for path in render_figure(
        "panels",
        store,
        query,
        out,
        width=width,
        classes=classes,
        map=map,
        data=data,
        style=style,
        opener=opener,
        if_exists=if_exists,
    ):
        click.echo(path)
