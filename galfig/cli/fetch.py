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
    settings = fetch.settings_path
    option, read = ("--catalog", path) if settings is None else ("--config", settings)
    logger.info("next: galfig build-maps %s %s", option, shlex.quote(str(read)))


class _Number(click.ParamType):  # type: ignore[type-arg]
    """A number of galaxies, or "all", which is 0."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the number."""
        if value == "all":
            return 0
        try:
            return Integer(min=1).convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither 'all' nor a number from 1.", param, ctx)


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


def position_options(function: options.Function) -> options.Function:
    """Add which catalog holds the positions, and where, to a command."""
    choices: list[Callable[[Any], Any]] = [
        options.catalog_option,
        options.config_option,
        click.option(
            "--ra",
            metavar="COLUMN",
            help="Column with the right ascension [deg].  [default: ra, RAJ2000, ...]",
        ),
        click.option(
            "--dec",
            metavar="COLUMN",
            help="Column with the declination [deg].  [default: dec, DEJ2000, ...]",
        ),
    ]
    for choice in reversed(choices):
        function = choice(function)
    return function


@fetch.command("legacy")
@folder_argument
@position_options
@click.option(
    "--layer", default="ls-dr10", show_default=True, help="Layer of the viewer, such as ls-dr9."
)
@click.option(
    "--format",
    type=click.Choice(["jpg", "fits"]),
    default="jpg",
    show_default=True,
    help="Colour pictures, or a cube of fluxes.",
)
@click.option("--bands", metavar="LETTERS", help="Bands from blue to red.  [default: grz of FITS]")
@click.option(
    "--size",
    default=192,
    show_default=True,
    type=Integer(min=8, max=3000),
    help="Side of a cutout [pixels].",
)
@click.option(
    "--pixel-scale",
    default=0.262,
    show_default=True,
    type=Number(min=0.01, max=60),
    help="Pixel scale [arcsec/pixel].",
)
@fetch_options
@options.standard_options
def legacy(
    folder: Path, config: Path | None, manners: "Manners", dry_run: bool, **given: Any
) -> None:
    """Fetch cutouts of your galaxies from the DESI Legacy Imaging Surveys.

    The catalog holds identifiers and positions; DIR gets a copy of it. Run it again to fetch what
    is missing. Where the defaults do not read DIR, DIR/galfig.toml does.

    \b
    Examples:
      galfig fetch legacy sky --catalog galaxies.csv
      galfig fetch legacy sky --catalog galaxies.fits --format fits --bands grz
      galfig build-maps --config sky/galfig.toml
    """
    from galfig.survey.legacy import plan_legacy

    carry_out(plan_legacy(folder, settings=config, manners=manners, **given), dry_run)


@fetch.command("hips")
@folder_argument
@position_options
@click.option(
    "--hips",
    metavar="ID",
    multiple=True,
    required=True,
    help="The HiPS, such as CDS/P/SDSS9/color; of FITS also several, a band each, red first.",
)
@click.option(
    "--format",
    type=click.Choice(["jpg", "png", "fits"]),
    default="jpg",
    show_default=True,
    help="Pictures, or the fluxes of a HiPS of one band.",
)
@click.option(
    "--size",
    default=128,
    show_default=True,
    type=Integer(min=8, max=7000),
    help="Side of a cutout [pixels].",
)
@click.option(
    "--pixel-scale",
    default=0.396,
    show_default=True,
    type=Number(min=0.01, max=3600),
    help="Pixel scale [arcsec/pixel].",
)
@click.option(
    "--stretch",
    type=click.Choice(["power", "linear", "sqrt", "log", "asinh"]),
    default="linear",
    show_default=True,
    help="How the service makes pictures of a HiPS of one band.",
)
@click.option(
    "--cut",
    nargs=2,
    type=Number(min=0, max=100),
    default=(0.5, 99.5),
    show_default=True,
    help="Percentiles of such a picture that are black and white.",
)
@fetch_options
@options.standard_options
def hips(
    folder: Path, config: Path | None, manners: "Manners", dry_run: bool, **given: Any
) -> None:
    """Fetch cutouts of your galaxies from any survey that is a HiPS at CDS.

    The catalog holds identifiers and positions; DIR gets a copy of it. The list of HiPS is at
    https://aladin.cds.unistra.fr/hips/list. Run it again to fetch what is missing.

    \b
    Examples:
      galfig fetch hips sky --catalog galaxies.csv --hips CDS/P/PanSTARRS/DR1/color-z-zg-g
      galfig fetch hips sky --catalog galaxies.csv --hips CDS/P/PanSTARRS/DR1/i --format fits
    """
    from galfig.survey.hips import plan_hips

    carry_out(plan_hips(folder, settings=config, manners=manners, **given), dry_run)
