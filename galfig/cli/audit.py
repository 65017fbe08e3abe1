"""``galfig audit``."""

from pathlib import Path

import click

from galfig.cli import options
from galfig.cli.usage import Command
from galfig.runtime.files import IfExists
from galfig.runtime.malloc import keep_freed_memory
from galfig.runtime.options import Device


@click.command(cls=Command)
@click.argument("store", type=click.Path(path_type=Path, dir_okay=False), default="maps.h5")
@click.option(
    "--model",
    required=True,
    type=click.Path(path_type=Path),
    help="Checkpoint that the store was built with, or the folder of its networks.",
)
@options.own_code_option
@click.option(
    "--images",
    type=options.FolderOrAddress(path_type=Path, file_okay=False),
    help="Folder or address of the images of a store that holds no cutouts.  [default: as in the "
    "build, if below the folder of the store]",
)
@click.option(
    "--n",
    default=500,
    show_default=True,
    type=options.Integer(min=1),
    help="Number of galaxies, of those that did not train the network.",
)
@click.option(
    "--measures",
    type=options.Words(),
    metavar="MEASURE[,MEASURE...]",
    help="Only these measures.  [default: all but retraining, which trains networks]",
)
@click.option(
    "--seed",
    default=256,
    show_default=True,
    type=options.Integer(min=0, max=(1 << 32) - 1),
    help="Seed of the draw of galaxies, and of what the measures draw.",
)
@click.option(
    "--r50",
    metavar="COLUMN",
    help="Column with the radius of half the light [arcsec].  [default: petroR50_r, if present]",
)
@click.option(
    "--r90",
    metavar="COLUMN",
    help="Column with the radius of 90 % of the light [arcsec].  [default: petroR90_r, if present]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Audit to write; tables of the galaxies go beside it.  [default: STORE as .audit.h5]",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@options.device_option
@options.if_exists_options(with_update=True)
@options.takeover_option
@options.standard_options
def audit(
    store: Path,
    model: Path,
    arch: str | None,
    images: Path | str | None,
    n: int,
    measures: tuple[str, ...] | None,
    seed: int,
    r50: str | None,
    r90: str | None,
    out: Path | None,
    as_json: bool,
    device: Device,
    if_exists: IfExists,
    takeover: bool,
) -> None:
    """Measure what the maps of STORE are worth.

    Print each number with its 95 % interval and its controls, then what the maps support and what
    they do not. Galaxies that trained the network are left out. Run the same command again to
    continue an interrupted audit.

    The measures are completeness, common-mode, receptive-field, deletion, insertion, sanity,
    symmetry, seeds, shortcuts and reliability.

    \b
    Examples:
      galfig audit maps.h5 --model maps.safetensors
      galfig audit maps.h5 --model maps.safetensors --measures deletion,sanity --n 100
      galfig audit maps.h5 --model maps.safetensors --update --json
      galfig audit maps.h5 --model maps.safetensors --update --measures retraining
    """
    from galfig.auditing.main import audit as make_audit
    from galfig.auditing.table import describe_audit, format_audit
    from galfig.runtime.documents import dump_json
    from galfig.runtime.messages import make_printable

    keep_freed_memory()
    made = make_audit(
        store,
        model=model,
        arch=arch,
        images=images,
        n=n,
        measures=measures,
        seed=seed,
        r50=r50,
        r90=r90,
        out=out,
        if_exists=if_exists,
        device=device,
        takeover=takeover,
    )
    if as_json:
        click.echo(dump_json(describe_audit(made), indent=2, sort_keys=False))
        return
    for line in format_audit(made).split("\n"):
        click.echo(make_printable(line))
