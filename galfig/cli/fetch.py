"""``galfig fetch``."""

import functools
import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from galfig.cli import options
from galfig.cli.options import Integer, Number
from galfig.cli.usage import Group

if TYPE_CHECKING:
    from galfig.survey.download import Manners
    from galfig.survey.folder import Fetch

logger = logging.getLogger(__name__)


@click.group(cls=Group)
def fetch() -> None:
    """Fetch galaxies from a survey: a catalog, and a cutout of each.

    Of all commands, this one is made to use the network. It asks slowly, says who asks, and goes on
    where it stopped when it is run again.

    \b
    Examples:
      galfig fetch sdss sky
      galfig build-maps --catalog sky/catalog.csv
      galfig render --n 5 --zmin 0.05 --zmax 0.08
    """


def fetch_options(function: options.Function) -> options.Function:
    """Add how a service is asked; the command receives it as ``manners``."""

    @functools.wraps(function)
    def run(
        *args: Any,
        connections: int,
        rate: float,
        contact: str | None,
        max_failed: float,
        **given: Any,
    ) -> Any:
        from galfig.survey.download import Manners

        manners = Manners(connections, rate, contact, max_failed)
        return function(*args, manners=manners, **given)

    choices: list[Callable[[Any], Any]] = [
        click.option(
            "--connections",
            default=4,
            show_default=True,
            type=Integer(min=1, max=16),
            help="Connections at a time.",
        ),
        click.option(
            "--rate",
            default=5.0,
            show_default=True,
            type=Number(min=0.01, max=50),
            help="Requests per second.",
        ),
        click.option(
            "--contact",
            metavar="ADDRESS",
            help="Your address of mail, which the service's operators see.  [default: "
            "GALFIG_CONTACT]",
        ),
        click.option(
            "--max-failed",
            default=0.05,
            show_default=True,
            type=Number(min=0, max=1),
            help="Share of the cutouts that may fail; exit status 1 if more do.",
        ),
        click.option("--base-url", metavar="URL", help="Address of a mirror of the service."),
        click.option(
            "--dry-run", is_flag=True, help="Say how much it would fetch, and fetch nothing."
        ),
    ]
    for choice in reversed(choices):
        run = choice(run)
    return run  # type: ignore[return-value]


folder_argument = click.argument(
    "folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False)
)


def carry_out(fetch: "Fetch", dry_run: bool) -> None:
    """Fetch, print where the catalog is, and say what comes next; or print what it would take."""
    if dry_run:
        click.echo(fetch.estimate())
        return
    path = fetch.run()
    click.echo(path)
    logger.info("next: galfig build-maps --catalog %s", shlex.quote(str(path)))


class _Number(click.ParamType):  # type: ignore[type-arg]
    """A number of galaxies, or "all", which is 0."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the number."""
        return 0 if value == "all" else Integer(min=0).convert(value, param, ctx)


@fetch.command("sdss")
@folder_argument
@click.option(
    "--n",
    default=2000,
    show_default=True,
    type=_Number(),
    metavar="N|all",
    help="Number of galaxies, spread evenly.",
)
@click.option(
    "--data-release",
    default=18,
    show_default=True,
    type=Integer(min=8, max=99),
    help="Data release.",
)
@click.option("--where", metavar="SQL", help="A condition on columns, such as 'z < 0.1'.")
@click.option(
    "--sql",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Query to ask for in place of that of Wu & Boada 2019; gives objID, ra and dec.",
)
@click.option(
    "--size",
    default=128,
    show_default=True,
    type=Integer(min=16, max=2048),
    help="Side of a cutout [pixels].",
)
@click.option(
    "--pixel-scale",
    default=0.396,
    show_default=True,
    type=Number(min=0.015, max=60),
    help="Pixel scale [arcsec/pixel].",
)
@fetch_options
@options.standard_options
def sdss(folder: Path, manners: "Manners", dry_run: bool, **given: Any) -> None:
    """Fetch galaxies with a metallicity from SDSS: catalog and colour cutouts.

    DIR is made if it does not exist; the catalog is DIR/catalog.csv. Run it again to fetch what is
    missing.

    \b
    Examples:
      galfig fetch sdss sky
      galfig fetch sdss nearby --n all --where 'z < 0.05' --contact me@example.org
      galfig fetch sdss sky --n all --dry-run
    """
    from galfig.survey.sdss import plan_sdss

    carry_out(plan_sdss(folder, manners=manners, **given), dry_run)
