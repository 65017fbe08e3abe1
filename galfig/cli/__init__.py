"""The command line: one file a command, imported when it is called."""

import importlib
import io
import os
import sys

import click

import galfig

# Name of each command, and the module and function that hold it.
COMMANDS = {
    "simulate": "galfig.cli.simulate:simulate",
    "train": "galfig.cli.train:train",
    "build-maps": "galfig.cli.build_maps:build_maps",
    "render": "galfig.cli.render:render",
    "figure": "galfig.cli.figure:figure",
    "manuscript": "galfig.cli.manuscript:manuscript",
    "info": "galfig.cli.info:info",
}


class _LazyGroup(click.Group):
    """Imports a command when it is asked for, in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(galfig.__version__, prog_name="galfig")
def main() -> None:
    """Make Grad-CAM figures of galaxies, in batch and again at will.

    \b
    Examples:
      galfig build-maps
      galfig render --n 5 --zmin 0.05 --zmax 0.08
    """
    _settle_streams()


def _settle_streams() -> None:
    """Let no sign of a path or a class end a command where the terminal lacks it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        # Closed by who started this: progress bars need something to write to.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
