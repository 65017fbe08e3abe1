"""``galfig simulate``."""

from pathlib import Path

import click

from galfig.cli.options import Integer, overwrite_option, standard_options
from galfig.cli.usage import Command


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--n", default=600, show_default=True, type=Integer(min=1), help="Number of galaxies."
)
@click.option("--seed", default=0, show_default=True, type=Integer(min=0), help="Random seed.")
@overwrite_option
@standard_options
def simulate(folder: Path, n: int, seed: int, overwrite: bool, quiet: bool) -> None:
    """Simulate SDSS-like galaxies: cutouts and a catalog.

    DIR is made if it does not exist; the catalog is DIR/catalog.csv.

    \b
    Examples:
      galfig simulate data/simulated --n 600 --seed 0
    """
    from tqdm import tqdm

    from galfig.catalog.simulate import write_simulated

    catalog = write_simulated(
        folder,
        n,
        seed,
        overwrite=overwrite,
        progress=lambda galaxies: tqdm(galaxies, desc="simulating", total=n, disable=quiet),
    )
    click.echo(catalog)
