"""Annotations: what stands on the panels of a galaxy, of what a store knows about it."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from galfig.config import StyleSettings
from galfig.figures.captions import PLAIN, format_probability, list_letters, name_classes
from galfig.figures.labels import strip_unit
from galfig.runtime.options import Annotation
from galfig.store.designations import name_by_position
from galfig.store.reader import Store

logger = logging.getLogger(__name__)

# Longest value that is written with as many decimals as the others, in characters.
MAX_FIGURES = 7


class Words(NamedTuple):
    """What stands on the cutout of a galaxy.

    Attributes
    ----------
    title : str
        The heading; "" for none.
    facts : tuple of str
        What else is said, a line each.
    letter : str
        Letter of the row; "" for none.
    """

    title: str
    facts: tuple[str, ...]
    letter: str = ""


def list_words(
    store: Store,
    indices: Sequence[int] | NDArray[np.intp],
    style: StyleSettings,
    letters: Sequence[str] = (),
) -> list[Words]:
    """List what stands on the cutouts of galaxies.

    Parameters
    ----------
    store : Store
        An open store.
    indices : (n,) sequence of int
        Positions in the store.
    style : StyleSettings
        What is to stand there, and whether rows have letters.
    letters : sequence of str, optional
        Letters of the rows, (n,); by default, from "a" on if the style asks for them.

    Returns
    -------
    list of Words
        The words of each galaxy, in the order of the style. What is not known of a galaxy is left
        out; one without a position has its identifier in place of a name by position.

    Raises
    ------
    StoreError
        If galaxies are to be named by position, and the store knows none.
    """
    rows = np.asarray(indices, np.intp)
    named = tuple("" for _ in rows)
    if "name" in style.annotate:
        named = name_by_position(store, rows, style.designation)
    if style.letters and not letters:
        letters = list_letters(len(rows))
    n_decimals = None
    for what, noun in (("z", "redshift"), ("value", "value that was binned")):
        # A column of millions of galaxies is read only if it is asked for.
        if what not in style.annotate or not len(rows):
            continue
        known = (store.redshift if what == "z" else store.value)[rows]
        if not np.isfinite(known).any():
            logger.warning("`annotate` %s: none of these galaxies has a %s", what, noun)
        if what == "value":
            n_decimals = _count_decimals(known)
    found = []
    for number, (index, name) in enumerate(zip(rows, named, strict=True)):
        asked = dict.fromkeys(
            "objid" if one == "name" and not name else one for one in style.annotate
        )
        words = [_write(store, int(index), one, name, n_decimals) for one in asked]
        title, *facts = [one for one in words if one] or [""]
        found.append(Words(title, tuple(facts), letters[number] if letters else ""))
    return found


def _count_decimals(values: NDArray[np.float64]) -> int | None:
    """Return with how many decimals all values have four significant figures; None for too many."""
    words = [f"{value:.4g}" for value in values[np.isfinite(values)]]
    if any("e" in one for one in words):
        return None
    n = max((len(one.partition(".")[2]) for one in words), default=0)
    # Values of very different size would get figures that say nothing.
    widest = max((abs(value) for value in values[np.isfinite(values)]), default=0.0)
    return n if len(f"{widest:.{n}f}") <= MAX_FIGURES else None


def _write(store: Store, index: int, what: Annotation, name: str, n_decimals: int | None) -> str:
    """Write one thing that is known of a galaxy; "" if it is not, or is one of its maps."""
    if what == "objid":
        return str(store.objids(index))
    if what == "name":
        return name
    if what == "z" and np.isfinite(redshift := store.redshift[index]):
        return f"z = {redshift:.3f}".replace("-", "−")
    if what == "value" and np.isfinite(value := store.value[index]):
        words = f"{value:.4g}" if n_decimals is None else f"{value:.{n_decimals}f}"
        return f"{_name_quantity(store)} = {words}".replace(" = -", " = −")
    if what == "true" and (label := int(store.label[index])) >= 0:
        return f"true: {name_classes(store)[label]}"
    return ""


def _name_quantity(store: Store) -> str:
    """Return what the binned quantity is called on panels: its label, symbol, or column."""
    classes = store.settings.classes
    if classes.column in store.labels:
        return PLAIN.label(strip_unit(store.labels[classes.column]))
    return classes.symbol or classes.column or "value"


def write_footing(p: float, total: str, style: StyleSettings) -> str:
    """Write what stands at the bottom of a map.

    Parameters
    ----------
    p : float
        Probability of the class.
    total : str
        The sum of the map, or what stands in its place.
    style : StyleSettings
        Which of the two is to stand there.

    Returns
    -------
    str
        In lines, with mathematics; "" for nothing.
    """
    lines = []
    if "p" in style.annotate:
        lines.append(f"$p {format_probability(p)}$")
    if "sum" in style.annotate:
        lines.append(total)
    return "\n".join(lines)


def is_true(store: Store, index: int, class_idx: int, style: StyleSettings) -> bool | None:
    """Tell whether a class is the true one of a galaxy; None if that is not known, or not said."""
    label = int(store.label[index])
    return bool(class_idx == label) if "true" in style.annotate and label >= 0 else None
