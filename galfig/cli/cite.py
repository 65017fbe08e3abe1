"""``galfig cite``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galfig.cli import options
from galfig.cli.messages import translate
from galfig.cli.usage import Command
from galfig.runtime.files import ErrorOrReplace, check_apart, check_output

if TYPE_CHECKING:
    from galfig.citing.writing import Format


@click.command(cls=Command)
@click.argument(
    "stores",
    type=click.Path(path_type=Path, dir_okay=False),
    nargs=-1,
    metavar="[STORE]...",
)
@click.option(
    "--survey",
    "surveys",
    multiple=True,
    metavar="NAME",
    help="Survey of the galaxies, where the store does not record it, such as sdss-dr17, "
    "legacy-dr10 or galaxy-zoo-2; may be repeated.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "bibtex", "latex", "json"]),
    help="What to write.  [default: by the suffix of --out, otherwise text]",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, such as software.bib or acknowledgements.tex.",
)
@options.config_option
@options.if_exists_options()
@options.standard_options
@click.pass_context
def cite(
    ctx: click.Context,
    stores: tuple[Path, ...],
    surveys: tuple[str, ...],
    format_: "Format | None",
    as_json: bool,
    out: Path | None,
    config: Path | None,
    if_exists: ErrorOrReplace,
) -> None:
    """Print what a paper with figures of STORE must cite, and why.

    Papers on the method, the network, the programs and the surveys, the programs with their
    versions, and the acknowledgements that surveys ask for, as far as STORE records what it was
    made from. STORE is what build-maps wrote, maps.h5 by default; several may be given.

    \b
    Examples:
      galfig cite maps.h5
      galfig cite maps.h5 --out software.bib
      galfig cite colour.h5 mono.h5 --survey sdss-dr17 --format latex
    """
    from galfig.citing.main import cite as collect
    from galfig.citing.writing import save_citations, write_citations

    stores = stores or (Path("maps.h5"),)
    format: Format | None = "json" if as_json else format_
    if out is not None:
        check_output(out, if_exists=if_exists)
        check_apart(out, stores)
    citations = collect(stores, surveys, settings=config)
    # They name parameters of the library.
    citations = replace(citations, notes=tuple(translate(one, ctx) for one in citations.notes))
    if out is None:
        click.echo(write_citations(citations, format or "text"), nl=False)
    else:
        click.echo(save_citations(citations, out, format, if_exists=if_exists))
