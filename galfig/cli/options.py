"""Options that several commands share, and what every command does around its body."""

import functools
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from galfig.errors import GalfigError

Function = TypeVar("Function", bound=Callable[..., Any])

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130

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


def standard_options(function: Function) -> Function:
    """Add -q, -v and --debug; log to stderr; turn expected failures into one line.

    The command gets ``quiet``, True where its progress bars should be silent.
    """

    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
    @click.option("-v", "--verbose", count=True, help="Say more.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an expected failure.")
    @functools.wraps(function)
    def run(*args: Any, quiet: bool, verbose: int, debug: bool, **options: Any) -> Any:
        _start_logging(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
        try:
            return function(*args, quiet=quiet, **options)
        except GalfigError as exc:
            if debug:
                traceback.print_exc()
            click.echo(f"galfig: error: {exc}", err=True)
            sys.exit(EXIT_FAILED)
        except KeyboardInterrupt:
            click.echo("galfig: interrupted; run the same command again to go on", err=True)
            sys.exit(EXIT_INTERRUPTED)

    return run  # type: ignore[return-value]


def _start_logging(level: int) -> None:
    logger = logging.getLogger("galfig")
    logger.handlers = [_StderrHandler()]
    logger.setLevel(level)
    logger.propagate = False


class _StderrHandler(logging.Handler):
    """Writes a line to stderr, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        prefix = "warning: " if record.levelno == logging.WARNING else ""
        tqdm.write(f"{prefix}{record.getMessage()}", file=sys.stderr)
