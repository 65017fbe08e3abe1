"""``galfig manuscript``."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from galfig.cli import options
from galfig.cli.messages import translate
from galfig.cli.usage import Group
from galfig.runtime.messages import one_line

EXIT_DIFFERS = 1
_folder_argument = click.argument(
    "folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False)
)


@click.group(cls=Group)
def manuscript() -> None:
    """Draw the figures of a paper, and check that they agree with its stores.

    DIR holds manuscript.toml, which says how the stores are made and lists the figures.

    \b
    Examples:
      galfig manuscript build manuscripts/grad-cam-metallicity --pdf
      galfig manuscript check manuscripts/grad-cam-metallicity
    """


@manuscript.command()
@_folder_argument
@click.option("--pdf", is_flag=True, help="Also compile the paper with latexmk.")
@click.option(
    "--retrain",
    is_flag=True,
    help="Also remake files that are kept with the paper, such as networks.",
)
@click.option(
    "--only-stores", is_flag=True, help="Build the stores that check needs, and draw nothing."
)
@click.option(
    "--depfile",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a dependency file for make.",
)
@options.standard_options
def build(
    folder: Path,
    pdf: bool,
    retrain: bool,
    only_stores: bool,
    depfile: Path | None,
) -> None:
    """Rebuild what is out of date: stores, figures, captions, values.

    \b
    Examples:
      galfig manuscript build manuscripts/grad-cam-metallicity
    """
    from galfig.manuscript.build import build_manuscript
    from galfig.pipeline.supply import Sources

    opener = Sources().open
    states = build_manuscript(folder, retrain=retrain, only_stores=only_stores, opener=opener)
    _echo_table((state.path, state.reason or "up to date") for state in states)
    if depfile is not None:
        from galfig.manuscript.depfile import write_depfile

        write_depfile(folder, depfile)
    if pdf:
        from galfig.manuscript.latex import compile_paper
        from galfig.manuscript.manifest import load_manifest

        path, complaints = compile_paper(folder, load_manifest(folder).tex)
        for words in complaints:
            click.echo(f"warning: {path}: {words}", err=True)
        click.echo(path)


@manuscript.command()
@_folder_argument
@click.option("--exact", is_flag=True, help="Compare bytes, not what a reader sees.")
@options.standard_options
def check(folder: Path, exact: bool) -> None:
    """Redraw everything elsewhere, and fail if a figure, caption or value differs.

    \b
    Examples:
      galfig manuscript check manuscripts/grad-cam-metallicity
    """
    from galfig.manuscript.check import check_manuscript
    from galfig.pipeline.supply import Sources

    differences = check_manuscript(folder, exact=exact, opener=Sources().open)
    if differences:
        ctx = click.get_current_context()
        _echo_table((one.path, one.reason, translate(one.what, ctx)) for one in differences)
        click.echo(f"galfig: error: {folder}: {len(differences)} differences", err=True)
        sys.exit(EXIT_DIFFERS)
    click.echo(f"{folder}: all figures, captions and values agree with the stores")


@manuscript.command("list")
@_folder_argument
@options.standard_options
def list_files(folder: Path) -> None:
    """List the files of a manuscript, and why each would be rebuilt.

    \b
    Examples:
      galfig manuscript list manuscripts/grad-cam-metallicity
    """
    from galfig.manuscript.build import list_states

    _echo_table((state.path, state.reason or "up to date") for state in list_states(folder))


def _echo_table(rows: Iterable[Sequence[str]]) -> None:
    """Print rows with aligned columns."""
    # A record or a file of a stranger may hold what a terminal would obey.
    cells = [[one_line(cell) for cell in row] for row in rows]
    if not cells:
        return
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
