"""``galfig simulate``."""

from pathlib import Path
from typing import get_args

import click

from galfig.cli.options import Integer, if_exists_options, standard_options
from galfig.cli.usage import Command
from galfig.runtime.files import ErrorOrReplace
from galfig.runtime.options import Cue


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--n", default=600, show_default=True, type=Integer(min=1), help="Number of galaxies."
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=Integer(min=0, max=(1 << 64) - 1),
    help="Random seed.",
)
@click.option(
    "--cue",
    type=click.Choice(get_args(Cue)),
    help="Have this component alone decide the class, and write masks of it.",
)
@if_exists_options()
@standard_options
def simulate(folder: Path, n: int, seed: int, cue: Cue | None, if_exists: ErrorOrReplace) -> None:
    """Simulate SDSS-like galaxies: cutouts and a catalog.

    DIR is made if it does not exist; the catalog is DIR/catalog.csv. With --cue, DIR/masks holds
    the truth for 'galfig score', and DIR/cue.toml the settings to train with.

    \b
    Examples:
      galfig simulate data/simulated --n 600 --seed 0
      galfig simulate data/corner --cue corner
    """
    from galfig.catalog.sample import simulate as write

    click.echo(write(folder, n, seed, cue=cue, if_exists=if_exists))
