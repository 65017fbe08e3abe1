"""Options that several commands share, and what every command does around its body."""

import dataclasses
import functools
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from galfig.cli.signals import Stopped, stop_on_signals, write_farewell
from galfig.errors import GalfigError
from galfig.runtime.progress import write_line

Function = TypeVar("Function", bound=Callable[..., Any])

EXIT_FAILED = 1

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file.  [default: galfig.toml, where there is one]",
)
catalog_option = click.option(
    "--catalog",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Catalog: CSV, Parquet, FITS or ECSV.",
)
images_option = click.option(
    "--images",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that the template of image paths is relative to.  [default: the catalog's]",
)
layer_option = click.option(
    "--layer", help="Layer to explain, by name.  [default: the last feature maps]"
)
grayscale_option = click.option(
    "--grayscale", is_flag=True, default=None, help="Train on one band: the luminance of RGB."
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the network runs; auto takes CUDA where there is one.",
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace files that are there already."
)
update_option = click.option(
    "--update", is_flag=True, help="Replace what was made from something else, and only that."
)
takeover_option = click.option(
    "--takeover",
    is_flag=True,
    help="Go on where a process on another host, that is gone, left its lock.",
)


def if_exists_options(*, with_update: bool = False) -> Callable[[Function], Function]:
    """Add --overwrite and, where asked, --update; the command gets them as ``if_exists``."""

    def add(function: Function) -> Function:
        @functools.wraps(function)
        def run(*args: Any, overwrite: bool, update: bool = False, **given: Any) -> Any:
            if overwrite and update:
                raise click.UsageError("--overwrite and --update exclude each other; give one")
            if_exists = "replace" if overwrite else "update" if update else "error"
            return function(*args, if_exists=if_exists, **given)

        # Options that are added last come first in the help.
        choices = [update_option, overwrite_option] if with_update else [overwrite_option]
        for choice in choices:
            run = choice(run)
        return run  # type: ignore[return-value]

    return add


def figure_options(function: Function) -> Function:
    """Add the options of every figure: its width, and the table behind it."""
    function = click.option(
        "--data",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Table to write with the numbers that the figure shows: FILE.ecsv.",
    )(function)
    return click.option(
        "--width", metavar="column|text|INCHES", help="Width; those of AASTeX are 3.39 and 7.1 in."
    )(function)


def selection_options(n: int | None) -> Callable[[Function], Function]:
    """Add the options that choose galaxies of a store; the command gets them as ``query``."""
    choices = [
        click.option(
            "--n",
            default=n,
            show_default=n is not None,
            type=click.IntRange(min=1),
            help="How many galaxies." if n is not None else "How many galaxies.  [default: all]",
        ),
        click.option("--zmin", type=float, help="Only redshifts above this."),
        click.option("--zmax", type=float, help="Only redshifts below this."),
        click.option("--true", metavar="CLASS", help="Only galaxies of this class."),
        click.option("--predicted", metavar="CLASS", help="Only galaxies classified as this."),
        click.option(
            "--correct/--wrong",
            default=None,
            help="Only galaxies classified rightly, or wrongly.",
        ),
        click.option(
            "--where",
            metavar="CONDITION",
            help="Only where this holds of the catalog's columns, such as 'oh_p50 > 9.15'.",
        ),
        click.option(
            "--sort",
            type=click.Choice(["random", "loss", "p", "redshift"]),
            default="random",
            show_default=True,
            help="Drawn by seed, or first the most wrong, the most certain, the nearest.",
        ),
        click.option(
            "--seed",
            default=256,
            show_default=True,
            type=click.IntRange(min=0),
            help="Seed of the draw.",
        ),
        click.option("--objid", "objids", multiple=True, help="This galaxy; may be repeated."),
    ]

    def add(function: Function) -> Function:
        @functools.wraps(function)
        def run(*args: Any, **given: Any) -> Any:
            from galfig.store.selection import Query

            asked = {key.name: given.pop(key.name) for key in dataclasses.fields(Query)}
            return function(*args, query=Query(**asked), **given)

        for choice in reversed(choices):
            run = choice(run)
        return run  # type: ignore[return-value]

    return add


# What is said behind "interrupted" by the commands whose work is kept, by function.
_HOW_TO_GO_ON = {
    "train": "; run the same command again with --resume to go on",
    "build_maps": "; run the same command again to go on",
    "build": "; run the same command again to go on",
}


def standard_options(function: Function) -> Function:
    """Add -q, -v and --debug; log to stderr; turn expected failures into one line."""

    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
    @click.option("-v", "--verbose", count=True, help="Say more.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an expected failure.")
    @functools.wraps(function)
    def run(*args: Any, quiet: bool, verbose: int, debug: bool, **options: Any) -> Any:
        _start_logging(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
        farewell = f"interrupted{_HOW_TO_GO_ON.get(function.__name__, '')}"
        try:
            with stop_on_signals(farewell):
                return function(*args, **options)
        except GalfigError as exc:
            if debug:
                traceback.print_exc()
            # One line, whatever newlines a path or a cell may hold.
            click.echo(f"galfig: error: {' '.join(str(exc).split())}", err=True)
            sys.exit(EXIT_FAILED)
        except Stopped as exc:
            write_farewell(farewell)
            sys.exit(exc.exit_code)

    return run  # type: ignore[return-value]


def _start_logging(level: int) -> None:
    logger = logging.getLogger("galfig")
    logger.handlers = [_StderrHandler()]
    logger.setLevel(level)
    logger.propagate = False


class _StderrHandler(logging.Handler):
    """Writes a line to stderr, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno == logging.WARNING else ""
        write_line(f"{prefix}{record.getMessage()}")
