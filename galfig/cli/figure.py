"""``galfig figure``."""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from galfig.cli import options
from galfig.cli.usage import Command
from galfig.runtime.files import ErrorOrReplace
from galfig.runtime.options import Projection

if TYPE_CHECKING:
    from galfig.config import StyleSettings
    from galfig.figures.registry import Opener
    from galfig.runtime.options import MapKind
    from galfig.store.selection import Query


def _list_figures(ctx: click.Context, parameter: click.Parameter, is_asked: bool) -> None:
    """Print the list of figures and exit, whatever other arguments are given."""
    if not is_asked or ctx.resilient_parsing:
        return
    from galfig.figures.registry import FIGURES

    width = max(map(len, FIGURES))
    for name, kind in FIGURES.items():
        click.echo(f"{name:{width}}  {kind.summary}")
    ctx.exit()


@click.command(cls=Command)
@click.argument("name")
@click.argument("store", type=click.Path(path_type=Path, dir_okay=False), default="maps.h5")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_figures,
    help="List the figures and exit.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Figure to write: .pdf, .png or .svg; captions go beside it.  [default: NAME.pdf]",
)
@options.selection_options(n=None)
@click.option(
    "--unit",
    metavar="COLUMN",
    help="Column with a radius [arcsec], to be the unit of distance (radial-profile).",
)
@click.option(
    "--with",
    "other",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Second store (compare).",
)
@options.classes_option
@click.option(
    "--audit",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Audit of the store, whose table holds the statistics (attribution-vs).",
)
@click.option(
    "--column", metavar="COLUMN", help="Column of the catalog on the x axis (attribution-vs)."
)
@click.option(
    "--statistic",
    metavar="COLUMN",
    help="Column of the audit's table on the y axis (attribution-vs).  [default: "
    "brightness_correlation]",
)
@options.map_option
@click.option(
    "--cutouts",
    is_flag=True,
    help="Show cutouts framed by class, in place of points (feature-space).",
)
@click.option(
    "--projection",
    type=click.Choice(get_args(Projection)),
    help="Principal components of the features, or UMAP, with the extra umap (feature-space).  "
    "[default: pca]",
)
@click.option(
    "--figure-set",
    metavar="NUMBER",
    help="Write each page to a file of its own, and the macros of an AAS figure set with this "
    "number (atlas).",
)
@options.figure_options
@options.style_options
@options.again_options
@options.if_exists_options()
@options.standard_options
def figure(
    name: str,
    store: Path,
    out: Path | None,
    query: "Query",
    unit: str | None,
    other: Path | None,
    classes: tuple[str, ...],
    audit: Path | None,
    column: str | None,
    statistic: str | None,
    map: "MapKind | None",
    cutouts: bool,
    projection: Projection | None,
    figure_set: str | None,
    width: str | None,
    data: Path | None,
    style: "StyleSettings",
    opener: "Opener",
    if_exists: ErrorOrReplace,
) -> None:
    """Draw the figure NAME from STORE.

    STORE is what build-maps wrote, maps.h5 by default; nothing else is needed, unless it was built
    with --store native or --store statistics. For the figures of
    an audit it is what audit wrote. All other figures share the same selection options. Figures of
    statistics show all galaxies unless told otherwise.

    \b
    Examples:
      galfig figure --list
      galfig figure roc maps.h5 --where "z < 0.1" --out roc.pdf --data roc.ecsv
      galfig figure compare colour.h5 --with mono.h5 --n 3
      galfig figure atlas maps.h5 --figure-set 4
      galfig figure audit-curves maps.audit.h5
      galfig figure attribution-vs maps.h5 --audit maps.audit.h5 --column z
      galfig figure feature-space maps.h5 --cutouts
    """
    from galfig.figures.registry import render_figure

    path = out or Path(f"{name}.pdf")
    for written in render_figure(
        name,
        store,
        query,
        path,
        width=width,
        unit=unit,
        other=other,
        classes=classes,
        audit=audit,
        column=column,
        statistic=statistic,
        map=map,
        cutouts=cutouts,
        projection=projection,
        data=data,
        figure_set=figure_set,
        style=style,
        opener=opener,
        if_exists=if_exists,
    ):
        click.echo(written)
