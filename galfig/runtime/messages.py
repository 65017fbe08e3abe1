"""How messages show what was found: in one line, and not too long."""

from collections.abc import Sequence

import numpy as np


def quote(found: object, n: int = 60) -> str:
    """Show what was found, such as a cell: in one line, the first n characters of it."""
    text = " ".join(repr(found.item() if isinstance(found, np.generic) else found).split())
    return text if len(text) <= n else f"{text[:n]}..."


def shorten(names: Sequence[object], n: int = 8) -> str:
    """Join names, the first n of them."""
    return list_some([quote(name) for name in names], n)


def list_some(words: Sequence[str], n: int = 8) -> str:
    """Join words, the first n of them, and count the others."""
    return ", ".join(words[:n]) + (f" and {len(words) - n} more" if len(words) > n else "")
