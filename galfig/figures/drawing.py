"""What a figure is before it is a file: pages, caption, alternative text, and its numbers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from galfig.figures.captions import Markup
from galfig.store.reader import Store


class Column(NamedTuple):
    """A column of the data behind a figure: its values, what they are, and their unit."""

    values: ArrayLike
    description: str
    # As astropy knows it; a logit has none there.
    unit: str = ""


@dataclass(frozen=True)
class DrawOptions:
    """What may be asked of a figure beside the galaxies.

    Attributes
    ----------
    width : float or None
        Width of the figure [inch]; None for the figure's own.
    unit : str or None
        Column of the catalog that holds the radius [arcsec] of each galaxy, for distances.
    other : Store or None
        A second store to compare with.
    ax : Axes or None
        Axes of the caller to draw on, of a figure that has just one.
    cmap : str or None
        Name of the colour map; None for the figure's own.
    """

    width: float | None = None
    unit: str | None = None
    other: Store | None = None
    ax: Axes | None = None
    cmap: str | None = None


@dataclass(frozen=True)
class Drawing:
    """A figure and what goes with it.

    Attributes
    ----------
    name : str
        Name of the kind of figure, such as "panels".
    title : str
        For the file's metadata.
    pages : iterable of Figure
        What was drawn; one page but for an atlas, whose pages are drawn each time that they are
        asked for.
    describe : callable
        Returns the caption in a markup, sentences, one a line.
    alt : str
        What the figure shows, in a sentence, for those who cannot see it.
    tabulate : callable
        Returns the numbers that the figure shows: `Column` by name, all of one length.
    n_pages : int
        Number of pages.
    galaxies : tuple of str
        Identifiers of the galaxies that it shows one by one.
    """

    name: str
    title: str
    pages: Iterable[Figure]
    describe: Callable[[Markup], str]
    alt: str
    tabulate: Callable[[], Mapping[str, Column]]
    n_pages: int = 1
    galaxies: tuple[str, ...] = ()


def name_galaxies(store: Store, indices: NDArray[np.intp]) -> tuple[str, ...]:
    """Return the identifiers of some galaxies."""
    return tuple(str(store.objid[index]) for index in indices)


def tabulate_galaxies(store: Store, indices: NDArray[np.intp]) -> dict[str, Column]:
    """Return what a store says of some galaxies: classes, probabilities, loss, peaks of maps."""
    indices = np.asarray(indices, dtype=np.intp)
    names = np.array([*store.class_names, ""])
    columns = {
        "objid": Column(store.objid[indices].astype(str), "identifier, as in the catalog"),
        "z": Column(store.redshift[indices], "redshift"),
        "true": Column(names[store.label[indices]], "true class, empty where unknown"),
        "predicted": Column(names[store.predicted[indices]], "class of largest probability"),
        "loss": Column(store.losses[indices], "cross-entropy loss"),
    }
    peaks = [store.cams(int(index)).max(axis=(1, 2)) for index in indices]
    for c, name in enumerate(store.class_names):
        columns[f"p_{name}"] = Column(store.probs[indices, c], f"probability of class {name}")
        columns[f"peak_{name}"] = Column(
            [float(peak[c]) for peak in peaks], f"largest value of the map of {name} [logit]"
        )
    return columns
