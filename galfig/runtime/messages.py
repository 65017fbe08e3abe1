"""How messages show what was found: in one line, shortened, and with the nearest known name."""

import difflib
from collections.abc import Iterable, Sequence

CHECKSUM_MISMATCH = "checksum mismatch"
"""What is found where content no longer fits the digest that was written with it."""


def one_line(text: object) -> str:
    """Return a text, or what an exception says, without line breaks and double blanks."""
    return " ".join(str(text).split())


def quote(found: object, n: int = 60) -> str:
    """Show what was found, such as a cell: in one line, the first n characters of it."""
    # The command line offers near names before it imports anything that takes long.
    import numpy as np

    text = one_line(repr(found.item() if isinstance(found, np.generic) else found))
    return text if len(text) <= n else f"{text[:n]}..."


def shorten(names: Sequence[object], n: int = 8) -> str:
    """Join names, the first n of them."""
    return list_some([quote(name) for name in names], n)


def list_some(words: Sequence[str], n: int = 8) -> str:
    """Join words, the first n of them, and count the others."""
    return ", ".join(words[:n]) + (f" and {len(words) - n} more" if len(words) > n else "")


def find_near(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that somebody who wrote another may have meant; None if none is near.

    Neither case nor the dashes of an option make a difference. At the cutoff of `difflib` itself,
    0.6, paint would be near train.
    """
    bare: dict[str, str] = {}
    for word in known:
        bare.setdefault(_strip(word), word)
    near = difflib.get_close_matches(_strip(name), bare, n=1, cutoff=0.65)
    return bare[near[0]] if near else None


def suggest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Ask whether the nearest known name was meant; say something else where none is near."""
    near = find_near(name, known)
    return otherwise if near is None else f"did you mean {near!r}?"


def _strip(name: str) -> str:
    return name.lower().lstrip("-")
