"""``galfig render``."""

from pathlib import Path

import click

from galfig.cli import options


@click.command()
@click.argument(
    "store",
    type=click.Path(path_type=Path, dir_okay=False),
    default="maps.h5",
)
@click.option(
    "--n", default=5, show_default=True, type=click.IntRange(min=1), help="Galaxies, a row each."
)
@click.option("--zmin", type=float, help="Only redshifts above this.")
@click.option("--zmax", type=float, help="Only redshifts below this.")
@click.option(
    "--seed", default=256, show_default=True, type=click.IntRange(min=0), help="Seed of the draw."
)
@click.option("--objid", "objids", multiple=True, help="This galaxy; may be repeated.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="panels.pdf",
    show_default=True,
    help="Figure to write: .pdf, .png or .svg. The caption goes beside it, as .tex and .txt.",
)
@options.overwrite_option
@options.standard_options
def render(
    store: Path,
    n: int,
    zmin: float | None,
    zmax: float | None,
    seed: int,
    objids: tuple[str, ...],
    out: Path,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Draw galaxies of STORE with their maps: cutout, first class, second class.

    STORE is what build-maps wrote, maps.h5 by default; nothing else is needed.

    \b
    Examples:
      galfig render --n 5 --zmin 0.05 --zmax 0.08
      galfig render maps.h5 --objid 1237665024900858129 --out figure1.png
    """
    from galfig.figures.panels import render_panels
    from galfig.selection import select_galaxies
    from galfig.store import open_store

    with open_store(store) as opened:
        selection = select_galaxies(opened, n=n, zmin=zmin, zmax=zmax, seed=seed, objids=objids)
        written = render_panels(opened, selection, out, overwrite=overwrite)
    for path in written:
        click.echo(path)
