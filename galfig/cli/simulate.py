"""``galfig simulate``."""

from pathlib import Path

import click

from galfig.cli.options import Integer, if_exists_options, standard_options
from galfig.cli.usage import Command
from galfig.runtime.files import ErrorOrReplace


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--n", default=600, show_default=True, type=Integer(min=1), help="Number of galaxies."
)
@click.option("--seed", default=0, show_default=True, type=Integer(min=0), help="Random seed.")
@if_exists_options()
@standard_options
def simulate(folder: Path, n: int, seed: int, if_exists: ErrorOrReplace) -> None:
    """Simulate SDSS-like galaxies: cutouts and a catalog.

    DIR is made if it does not exist; the catalog is DIR/catalog.csv.

    \b
    Examples:
      galfig simulate data/simulated --n 600 --seed 0
    """
    from galfig.catalog.simulate import write_simulated

    click.echo(write_simulated(folder, n, seed, if_exists=if_exists))
