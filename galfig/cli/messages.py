"""Translating messages of the library for the command line: parameters become options.

The library writes a parameter in backticks, in Python's notation. The command line replaces the
parameters of the running command by its options::

    `zmin` 0.08 is not below `zmax` 0.05    --zmin 0.08 is not below --zmax 0.05
    use `if_exists="replace"`               use --overwrite

An option of another command is written with that command, if the message gives its value or the
option is a flag::

    train with `lr="auto"`                  train with 'galfig train --lr auto'

Any other text in backticks comes from the user, such as a column with an unusual name, and is not
changed. Neither is any text in quotes.
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
# Parameters of the library whose option has another name.
_OPTIONS = {"path": "out", "images_dir": "images"}
# Values of parameters that have an option of their own.
_FLAGS = {("if_exists", "replace"): "overwrite", ("if_exists", "update"): "update"}
# Commands to search if the running command lacks an option.
_OTHER_COMMANDS = ("build-maps", "train", "info", "audit", "merge")


def translate(message: str, ctx: click.Context) -> str:
    """Replace the library's parameters in a message by options of the command line.

    Parameters
    ----------
    message : str
        An error or warning of the library.
    ctx : click.Context
        Context of the running command.

    Returns
    -------
    str
        The message for the terminal. A parameter that is the name of an option, but cannot be
        written as one by these rules, loses its backticks.
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
    """Return the name of the option that sets a parameter, and the value if one is given."""
    value = None if text is None else _evaluate(text)
    if isinstance(value, str) and (name, value) in _FLAGS:
        return _FLAGS[name, value], True
    return _OPTIONS.get(name, name), value


def _evaluate(text: str) -> Any:
    """Return the value of a Python literal; the text itself if it is not a literal."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _write(option: click.Option, value: Any) -> str:
    """Write an option as a user types it; without a value, also the opposite switch."""
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
    """Return the names of the options of all commands."""
    group = ctx.find_root().command
    names = group.list_commands(ctx) if isinstance(group, click.Group) else []
    commands = [ctx.command, *(_get_command(ctx, name) for name in names)]
    return {str(option.name) for command in commands for option in _iter_options(command)}
