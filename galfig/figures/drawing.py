"""A figure before it is saved: its pages, caption, alternative text and data."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.config import DEFAULT_STYLE, StyleSettings
from galfig.figures.captions import Markup
from galfig.figures.methods import find_words
from galfig.runtime.options import MapKind, Projection
from galfig.store.audits import Audit
from galfig.store.reader import Store
from galfig.tables.columns import Column as Column
from galfig.tables.images import Image


@dataclass(frozen=True)
class DrawOptions:
    """Options of a figure, apart from its galaxies.

    Attributes
    ----------
    width : float or None
        Width of the figure [inch]; None for the figure's default.
    unit : str or None
        Catalog column with the radius [arcsec] of each galaxy, used as the unit of distance.
    other : Store or None
        A second store to compare with.
    ax : Axes or None
        Axes supplied by the caller, for a figure with a single axes.
    cmap : str or None
        Name of the colour map; None for the figure's default.
    classes : tuple of str
        Classes whose maps rows of panels show; nothing for the figure's default.
    audit : Audit or None
        An audit of the store, for a figure of its statistics.
    column, statistic : str or None
        Column of the catalog, and column of the audit's table, that are plotted against each other.
    map : {"grad-cam", "evidence"} or None
        What maps "panels" shows; None for those of the store's method.
    style : StyleSettings
        How the figure looks, unless it is drawn on the caller's axes.
    cutouts : bool
        Whether "feature-space" shows cutouts in place of points.
    projection : {"pca", "umap"} or None
        How "feature-space" projects features; None for principal components.
    axes : ndarray of Axes or None
        Axes supplied by the caller, for rows of panels.
    """

    width: float | None = None
    unit: str | None = None
    other: Store | None = None
    ax: Axes | None = None
    cmap: str | None = None
    classes: tuple[str, ...] = ()
    audit: Audit | None = None
    column: str | None = None
    statistic: str | None = None
    map: MapKind | None = None
    style: StyleSettings = DEFAULT_STYLE
    cutouts: bool = False
    projection: Projection | None = None
    axes: NDArray[np.object_] | None = None


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption, alternative text and data.

    Attributes
    ----------
    name : str
        Name of the kind of figure, such as "panels".
    title : str
        Title for the metadata of the file.
    pages : iterable of Figure
        The pages. All figures have one page except an atlas, whose pages are drawn on each
        iteration.
    describe : callable
        Takes a `Markup` and returns the caption, one sentence per line.
    alt : str
        Alternative text: one sentence for readers who cannot see the figure.
    tabulate : callable
        Returns the numbers that the figure shows, as `Column` by name, all of the same length.
    n_pages : int
        Number of pages.
    galaxies : tuple of str
        Identifiers of the galaxies that the figure shows individually.
    style : StyleSettings
        How it looks; pages that are drawn later, and files, need it.
    images : callable
        Returns the cutouts and maps that the figure shows, for a table of its data in FITS.
    describe_page : callable or None
        Takes the number of a page, from 1, and a `Markup`, and returns title and caption of that
        page; None for figures whose pages are no figures of their own.
    """

    name: str
    title: str
    pages: Iterable[Figure]
    describe: Callable[[Markup], str]
    alt: str
    tabulate: Callable[[], Mapping[str, Column]]
    n_pages: int = 1
    galaxies: tuple[str, ...] = ()
    style: StyleSettings = DEFAULT_STYLE
    images: Callable[[], Iterable[Image]] = tuple
    describe_page: Callable[[int, Markup], tuple[str, str]] | None = None


def name_galaxies(store: Store, indices: NDArray[np.intp]) -> tuple[str, ...]:
    """Return the identifiers of the galaxies at some positions, (n,), in a store."""
    return tuple(store.objids(np.asarray(indices, np.intp)))


def tabulate_galaxies(store: Store, indices: NDArray[np.intp]) -> dict[str, Column]:
    """Tabulate galaxies of a store.

    Parameters
    ----------
    store : Store
        An open store.
    indices : (n,) ndarray of int
        Positions in the store.

    Returns
    -------
    dict of str to Column
        Identifier, redshift, classes, loss, and for each class its probability and the peak of its
        map; n values each.
    """
    indices = np.asarray(indices, dtype=np.intp)
    names = np.array([*store.class_names, ""])
    columns = {
        "objid": Column(store.objids(indices).astype(str), "identifier, as in the catalog"),
        "z": Column(store.redshift[indices], "redshift"),
        "true": Column(names[store.label[indices]], "true class, empty where unknown"),
        "predicted": Column(names[store.predicted[indices]], "class of largest probability"),
        "loss": Column(store.losses[indices], "cross-entropy loss"),
    }
    peaks = [store.cams(int(index)).max(axis=(1, 2)) for index in indices]
    for c, name in enumerate(store.class_names):
        columns[f"p_{name}"] = Column(store.probs[indices, c], f"probability of class {name}")
        columns[f"peak_{name}"] = Column(
            [float(peak[c]) for peak in peaks],
            f"largest value of the map of {name} [{find_words(store.record).unit}]",
        )
    return columns
