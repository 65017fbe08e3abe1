"""Parts of messages: short one-line quotations, and suggestions of similar names.

The library writes a parameter in backticks, in Python's notation: ``use `if_exists="replace"```.
"""

import difflib
import re
import textwrap
from collections.abc import Iterable, Sequence

from galfig.errors import ConfigError

CHECKSUM_MISMATCH = "checksum mismatch"
"""What a message says if content does not match its recorded digest."""

WIDTH = 80
"""Columns of a terminal, which tables and sentences of a command fit."""

UNPRINTABLE = re.compile(
    "["
    # Control characters, among them the escapes of terminals, and the separators of lines.
    "\x00-\x1f\x7f-\x9f\u2028\u2029"
    # Characters that turn the direction of writing, and so show another text than the one given.
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    # Halves of characters, and what is not a character: XML, and so SVG, may hold neither.
    "\ud800-\udfff\ufffe\uffff"
    "]"
)
"""Characters that no text from a file may bring to a terminal, a figure or a caption."""


def find_unprintable(text: str) -> str:
    """Return the first character of a text that must not be shown; "" if there is none."""
    found = UNPRINTABLE.search(text)
    return found[0] if found else ""


def make_printable(text: object) -> str:
    """Return a text in which what must not be shown is escaped, such as ``\\x1b``.

    This is the only place where a text from a file is made safe. It is for messages and lists; a
    text that a figure draws is refused instead, since a name has no second spelling.

    Parameters
    ----------
    text : object
        A text, or anything with one.

    Returns
    -------
    str
        One line.
    """
    return UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], str(text))


def one_line(text: object) -> str:
    """Return a text, or the message of an exception, in one printable line with single blanks."""
    return make_printable(" ".join(str(text).split()))


def wrap_item(words: str) -> str:
    """Write words as an item of a list, in lines of at most `WIDTH` characters."""
    return textwrap.fill(words, WIDTH, initial_indent="- ", subsequent_indent="  ")


def quote(found: object, n: int = 60) -> str:
    """Return the repr of a value, such as a cell, in one line of at most n characters."""
    # The command line uses this module before any slow import.
    import numpy as np

    text = one_line(repr(found.item() if isinstance(found, np.generic) else found))
    return text if len(text) <= n else f"{text[:n]}..."


def shorten(names: Sequence[object], n: int = 8) -> str:
    """Quote and join the first n names, and count the others."""
    return list_some([quote(name) for name in names], n)


def list_some(words: Sequence[str], n: int = 8) -> str:
    """Join the first n words, and count the others."""
    return ", ".join(words[:n]) + (f" and {len(words) - n} more" if len(words) > n else "")


def require_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise ConfigError if a parameter is none of its choices.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : object
        Its value.
    choices : sequence
        Permitted values.
    """
    if value not in choices:
        expected = ", ".join(map(repr, choices))
        raise ConfigError(f"`{name}` {value!r}: expected one of {expected}")


def find_near(name: str, known: Iterable[str], *, cutoff: float = 0.65) -> str | None:
    """Find the known name that is most similar to an unknown one.

    Case and the leading dashes of an option are ignored.

    Parameters
    ----------
    name : str
        The unknown name.
    known : iterable of str
        The known names.
    cutoff : float, default 0.65
        Least similarity, from 0 to 1, as `difflib` measures it. At that library's default, 0.6,
        "paint" would match "train".

    Returns
    -------
    str or None
        The known name; None if none is similar.
    """
    bare: dict[str, str] = {}
    for word in known:
        bare.setdefault(_strip(word), word)
    near = difflib.get_close_matches(_strip(name), bare, n=1, cutoff=cutoff)
    return bare[near[0]] if near else None


def suggest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return 'did you mean NAME?' for a similar known name; ``otherwise`` if there is none."""
    return offer(find_near(name, known), otherwise)


def offer(near: str | None, otherwise: str = "") -> str:
    """Return 'did you mean NAME?' for what `find_near` found; ``otherwise`` if that is nothing."""
    return f"did you mean {near!r}?" if near else otherwise


def _strip(name: str) -> str:
    return name.lower().lstrip("-")
