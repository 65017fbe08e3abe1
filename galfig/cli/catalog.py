"""``galfig catalog``."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from galfig.cli import options
from galfig.cli.messages import translate
from galfig.cli.usage import Group
from galfig.runtime.files import ErrorOrReplace
from galfig.runtime.options import Split

if TYPE_CHECKING:
    from galfig.catalog.check import Decode


@click.group(cls=Group)
def catalog() -> None:
    """Check a catalog, or make one of images in folders.

    \b
    Examples:
      galfig catalog check galaxies.csv
      galfig catalog from-folders images --out catalog.csv
    """


@catalog.command("check")
@click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path), required=False)
@options.config_option
@options.images_option
@click.option(
    "--trained",
    is_flag=True,
    help="Check it for a network that is trained already, which needs neither classes nor splits.",
)
@click.option(
    "--split",
    type=click.Choice(get_args(Split)),
    help="Galaxies that would be explained.  [default: valid, or all with --trained]",
)
@click.option(
    "--decode",
    type=options.NumberOrAll(),
    metavar="all|N",
    default=0,
    help="Decode all images, or N of them evenly over the galaxies, and count those that cannot "
    "be used.  [default: only the headers of 200 are read]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options.standard_options
def check(
    file: Path | None,
    config: Path | None,
    images: Path | str | None,
    trained: bool,
    split: Split | None,
    decode: "Decode",
    as_json: bool,
) -> None:
    """Say what galfig understands of a catalog.

    FILE is read as 'galfig build-maps --catalog FILE' reads it; by default, it is that of the
    settings. Columns and what they are taken for, classes, images, and what would be left out and
    why. The exit status is 1 if build-maps would refuse the catalog.

    \b
    Examples:
      galfig catalog check galaxies.csv
      galfig catalog check galaxies.fits --config galfig.toml --decode all
      galfig catalog check votes.parquet --images cutouts --trained
    """
    from galfig.catalog.check import check_settings
    from galfig.config import load_settings
    from galfig.runtime.documents import dump_json

    settings = load_settings(config, {("catalog", "path"): file, ("catalog", "images_dir"): images})
    found = check_settings(settings, labelled=not trained, split=split, decode=decode)
    if as_json:
        click.echo(dump_json(found.to_dict(), indent=2, sort_keys=False))
    else:
        click.echo(_fit_terminal(translate(str(found), click.get_current_context())))
    if found.refusal:
        sys.exit(options.EXIT_FAILED)


def _fit_terminal(words: str) -> str:
    """Return a report without blocks, if the terminal does not know them."""
    from galfig.catalog.terminal import make_ascii

    try:
        "█×…".encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return make_ascii(words)
    return words


@catalog.command("from-folders")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="catalog.csv",
    show_default=True,
    help="Catalog to write.",
)
@options.if_exists_options()
@options.standard_options
def from_folders(folder: Path, out: Path, if_exists: ErrorOrReplace) -> None:
    """Write a catalog of images that lie in a folder for each class.

    DIR holds the folders of the classes, or train, valid and test with these folders in each. The
    settings for galfig.toml, with which the catalog is read, go to the standard output.

    \b
    Examples:
      galfig catalog from-folders images --out catalog.csv > galfig.toml
      galfig catalog from-folders images --out catalog.csv --overwrite
    """
    from galfig.catalog.folders import catalog_from_folders

    click.echo(_write_toml(catalog_from_folders(folder, out, if_exists=if_exists)), nl=False)


def _write_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write tables of texts as TOML."""
    import json

    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "".join(f"{line}\n" for line in lines)
