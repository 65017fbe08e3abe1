"""``galfig score``."""

from pathlib import Path

import click

from galfig.cli.options import Integer, standard_options
from galfig.cli.usage import Command


@click.command(cls=Command)
@click.argument("maps", type=click.Path(path_type=Path))
@click.option(
    "--truth",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of 'galfig simulate --cue'.",
)
@click.option(
    "--of",
    default="true",
    show_default=True,
    metavar="true|contrast|CLASS",
    help="Which map, where there is one per class; contrast is that of the true class minus the "
    "mean of the others.",
)
@click.option(
    "--part",
    type=click.Choice(["positive", "absolute"]),
    default="positive",
    show_default=True,
    help="Which values count as attribution.",
)
@click.option(
    "--cutout-size",
    type=Integer(min=1),
    help="Side of the central part of the image that the maps cover.  [default: the whole image; "
    "of a store, its cutouts]",
)
@click.option(
    "--seed", default=0, show_default=True, type=Integer(min=0), help="Seed of the bootstrap."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@standard_options
def score(
    maps: Path,
    truth: Path,
    of: str,
    part: str,
    cutout_size: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Score maps of any library on galaxies whose deciding component is known.

    MAPS is a .npy with maps (n, h, w) or (n, C, h, w) in the order of the catalog, a .npz with the
    arrays maps and objid, or a store. The table has the share of attribution on the component
    (mass accuracy), the share of the highest pixels in it (rank accuracy), and how often the
    highest is (pointing game), each minus what a centre dot, brightness and random maps reach.

    \b
    Examples:
      galfig simulate data/corner --cue corner
      galfig score maps.npz --truth data/corner
      galfig score maps.h5 --truth data/corner --of contrast --json
    """
    from galfig.runtime.documents import dump_json
    from galfig.runtime.messages import make_printable
    from galfig.truth.main import score as compute

    found = compute(maps, truth, of=of, part=part, cutout_size=cutout_size, seed=seed)  # type: ignore[arg-type]
    if as_json:
        click.echo(dump_json(found.model_dump(), indent=2, sort_keys=False))
        return
    for line in str(found).splitlines():
        click.echo(make_printable(line))
