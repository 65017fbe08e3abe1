"""The command line: one module per command, imported when the command is called."""

import contextlib
import errno
import importlib
import io
import os
import sys
from typing import Any, TextIO, cast

import click

import galfig
from galfig.cli.usage import Group
from galfig.runtime.launch import find_place
from galfig.runtime.messages import one_line

EXIT_FAILED = 1
# The module and function of each command, and the first sentence of its help. With these, the list
# of commands needs no import.
COMMANDS = {
    "fetch": "galfig.cli.fetch:fetch",
    "simulate": "galfig.cli.simulate:simulate",
    "catalog": "galfig.cli.catalog:catalog",
    "train": "galfig.cli.train:train",
    "import-model": "galfig.cli.import_model:import_model",
    "build-maps": "galfig.cli.build_maps:build_maps",
    "merge": "galfig.cli.merge:merge",
    "audit": "galfig.cli.audit:audit",
    "score": "galfig.cli.score:score",
    "render": "galfig.cli.render:render",
    "figure": "galfig.cli.figure:figure",
    "gallery": "galfig.cli.gallery:gallery",
    "export": "galfig.cli.export:export",
    "cite": "galfig.cli.cite:cite",
    "subset": "galfig.cli.subset:subset",
    "manuscript": "galfig.cli.manuscript:manuscript",
    "layers": "galfig.cli.layers:layers",
    "info": "galfig.cli.info:info",
    "verify": "galfig.cli.verify:verify",
}
SUMMARIES = {
    "fetch": "Fetch galaxies from a survey: a catalog, and a cutout of each.",
    "simulate": "Simulate SDSS-like galaxies: cutouts and a catalog.",
    "catalog": "Check a catalog, or make one of images in folders.",
    "train": "Train a classifier and write its checkpoint.",
    "import-model": "Import a network that another program trained, and check it.",
    "build-maps": "Explain every galaxy for every class, and write the store.",
    "merge": "Make STORE from the parts that 'galfig build-maps --shards' wrote.",
    "audit": "Measure what the maps of STORE are worth.",
    "score": "Score maps of any library on galaxies whose deciding component is known.",
    "render": "Draw galaxies from STORE with their maps, one row each.",
    "figure": "Draw the figure NAME from STORE.",
    "gallery": "Make a page to browse the galaxies of STORE with their maps.",
    "export": "Write files for other programs, the journal and the archive from STORE.",
    "cite": "Print what a paper with figures of STORE must cite, and why.",
    "subset": "Write a small store with some galaxies of STORE, to draw figures again.",
    "manuscript": "Draw the figures of a paper, and check that they agree with its stores.",
    "layers": "List the layers of MODEL that can be explained.",
    "info": "Describe a store, a checkpoint, an audit or a figure.",
    "verify": "Compare stores, checkpoints, audits and manuscripts with their own digests.",
}


class _LazyGroup(Group):
    """A group that imports a command only when it is called, and lists them in order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; see `click.Group.format_commands`."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except click.ClickException as exc:
            # Of several processes, one says it.
            if find_place().is_main:
                raise
            ctx.exit(exc.exit_code)
        except OSError as exc:
            # Commands report their own input and output errors. What is left is an error on stdout,
            # or an unexpected fault of the machine.
            reason = f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc)
            if exc.errno == errno.ENOSPC and not exc.filename:
                reason = f"stdout: cannot be written ({exc.strerror})"
                # Python would try to flush stdout again at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            click.echo(f"galfig: error: {one_line(reason)}", err=True)
            ctx.exit(EXIT_FAILED)


class _Log:
    """A stderr that ignores write errors, so that a missing terminal never aborts a job."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, words: str) -> int:
        try:
            return self._stream.write(words)
        except (OSError, ValueError):
            return len(words)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(galfig.__version__, prog_name="galfig")
def main() -> None:
    """Make reproducible Grad-CAM figures for whole catalogs of galaxies.

    \b
    Examples:
      galfig build-maps
      galfig render --n 5 --zmin 0.05 --zmax 0.08
    """
    _settle_streams()


def _settle_streams() -> None:
    """Make sure that a missing or limited terminal never aborts a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stderr, _Log):
        # stderr is None if the parent process closed it, but progress bars need a stream.
        log = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        sys.stderr = cast("TextIO", _Log(log))
