"""Messages of the library in the words of the command line: parameters become options.

The library names a parameter in backticks, as Python writes it. In the terminal the parameters of
the command that runs are its options::

    `zmin` 0.08 is not below `zmax` 0.05    --zmin 0.08 is not below --zmax 0.05
    use `if_exists="replace"`               use --overwrite

What another command takes is named with that command, where that is all of it::

    train with `lr="auto"`                  train with 'galfig train --lr auto'

Everything else that stands in backticks comes from the user, such as a column with an odd name,
and is left as it is; so is all that stands in quotes.
"""

import ast
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import click

_PARTS = re.compile(
    r"""
    (?<!\w) (?: '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" )
    | `(?P<name>[a-z]\w*) (?: =(?P<value>[^`]+) )?`
    """,
    re.VERBOSE,
)
# Parameters of the library whose option is called otherwise.
_OPTIONS = {"path": "out", "images_dir": "images"}
# An option for each value.
_FLAGS = {("if_exists", "replace"): "overwrite", ("if_exists", "update"): "update"}
# Commands that are named where the one that runs lacks an option.
_OTHER_COMMANDS = ("build-maps", "train", "info")


def translate(message: str, ctx: click.Context) -> str:
    """Put the options of a command in the place of the library's parameters.

    Parameters
    ----------
    message : str
        What the library says: an error or a warning.
    ctx : click.Context
        Of the command that runs.

    Returns
    -------
    str
        What the terminal shows. A parameter that is no option of the command, nor all of an
        option of another, loses its backticks.
    """
    return _PARTS.sub(partial(_replace, ctx), message)


def _replace(ctx: click.Context, match: re.Match[str]) -> str:
    if match["name"] is None:
        return match[0]
    name, value = _find_option(match["name"], match["value"])
    for option in _iter_options(ctx.command):
        if option.name == name:
            return _write(option, value)
    for other in _OTHER_COMMANDS:
        for option in _iter_options(_get_command(ctx, other)):
            if option.name == name and (value is not None or option.is_flag):
                return f"'galfig {other} {_write(option, value)}'"
    return match[0].strip("`") if name in _list_names(ctx) else match[0]


def _find_option(name: str, text: str | None) -> tuple[str, Any]:
    """Return the name of the option that a parameter is set by, and its value if one is given."""
    value = None if text is None else _evaluate(text)
    if isinstance(value, str) and (name, value) in _FLAGS:
        return _FLAGS[name, value], True
    return _OPTIONS.get(name, name), value


def _evaluate(text: str) -> Any:
    """Return the value that Python's notation means, or the notation where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _write(option: click.Option, value: Any) -> str:
    """Write an option as it is typed; without a value, the switches of both."""
    switch, opposite = max(option.opts, key=len), "".join(option.secondary_opts[:1])
    if value is None:
        return f"{switch}/{opposite}" if opposite else switch
    if option.is_flag:
        return switch if value else opposite or f"no {switch}"
    return f"{switch} {value}"


def _get_command(ctx: click.Context, name: str) -> click.Command | None:
    group = ctx.find_root().command
    return group.get_command(ctx, name) if isinstance(group, click.Group) else None


def _iter_options(command: click.Command | None) -> Iterator[click.Option]:
    for parameter in [] if command is None else command.params:
        if isinstance(parameter, click.Option):
            yield parameter


def _list_names(ctx: click.Context) -> set[str]:
    """Return the names of the options of every command."""
    group = ctx.find_root().command
    names = group.list_commands(ctx) if isinstance(group, click.Group) else []
    commands = [ctx.command, *(_get_command(ctx, name) for name in names)]
    return {str(option.name) for command in commands for option in _iter_options(command)}
