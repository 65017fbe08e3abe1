"""Class examples: a grid of cutouts, with one row per class."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.figures.captions import (
    Markup,
    describe_order,
    describe_sample,
    describe_scale,
    describe_training,
    name_classes,
)
from galfig.figures.drawing import Drawing, DrawOptions, name_galaxies, tabulate_galaxies
from galfig.figures.rows import plot_cutout, plot_scale_bar
from galfig.figures.style import (
    TEXT_WIDTH,
    fit_words,
    paper_style,
    plot_outlined_text,
)
from galfig.store.reader import Store
from galfig.store.selection import Selection, require_labels

# Approximate side of a cutout [inch].
SIDE = 1.1
GAP = 0.04
MARGIN = 0.24


def make_class_examples(
    store: Store, rows: list[NDArray[np.intp]], width: float | None = None
) -> Figure:
    """Draw cutouts with their identifiers, one row per class.

    Parameters
    ----------
    store : Store
        An open store.
    rows : list of (n,) ndarrays of int
        Positions in the store of the galaxies of each class; a row may be empty.
    width : float, optional
        Width of the figure [inch]; default 7.1. A narrower figure shows fewer galaxies.

    Returns
    -------
    Figure
    """
    width = width or TEXT_WIDTH
    n_columns = count_columns(width)
    with paper_style():
        side = (width - MARGIN - 0.02) / n_columns - GAP
        height = len(rows) * (side + GAP)
        fig = Figure(figsize=(width, height))
        for row, (indices, name) in enumerate(zip(rows, name_classes(store), strict=True)):
            name, size = fit_words(name, side, 8)
            bottom = height - (row + 1) * (side + GAP) + GAP / 2
            fig.text(
                0.5 * MARGIN / width,
                (bottom + side / 2) / height,
                name,
                rotation=90,
                ha="center",
                va="center",
                multialignment="center",
                parse_math=False,
                fontsize=size,
            )
            for column, index in enumerate(indices[:n_columns]):
                left = MARGIN + column * (side + GAP)
                ax = fig.add_axes((left / width, bottom / height, side / width, side / height))
                _plot_example(store, int(index), ax, side)
        return fig


def count_columns(width: float) -> int:
    """Return the number of galaxies that fit side by side in a width [inch]."""
    return max(1, round((width - MARGIN) / (SIDE + GAP)))


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the first galaxies of each class, in the order of a selection."""
    require_labels(store, "examples of each class")
    labels = store.label[selection.indices]
    n_columns = count_columns(options.width or TEXT_WIDTH)
    rows = [
        selection.indices[labels == index][:n_columns] for index in range(len(store.class_names))
    ]
    return Drawing(
        "class-examples",
        "Examples of each class",
        (make_class_examples(store, rows, options.width),),
        partial(_describe, store, selection, rows),
        "A grid of cutouts of galaxies, a row for each true class: "
        f"{', '.join(name_classes(store))}.",
        partial(tabulate_galaxies, store, np.concatenate(rows)),
        galaxies=name_galaxies(store, np.concatenate(rows)),
    )


def _plot_example(store: Store, index: int, ax: Axes, side: float) -> None:
    cutout, objid = store.cutouts(index), str(store.objid[index])
    plot_cutout(cutout, ax=ax)
    objid, size = fit_words(objid, 0.94 * side, 6.5)
    plot_outlined_text(0.5, 0.95, objid, ax=ax, size=size, va="top", parse_math=False)
    if np.isfinite(store.pixel_scale[index]):
        scale, kpc = store.pixel_scale[index], store.kpc_per_arcsec[index]
        plot_scale_bar(cutout.shape[1], scale, ax=ax, size=6.0, kpc_per_arcsec=kpc)


def _describe(
    store: Store, selection: Selection, rows: list[NDArray[np.intp]], markup: Markup
) -> str:
    counts = ", ".join(
        f"{len(row)} of {markup.text(name)}"
        for row, name in zip(rows, name_classes(store), strict=True)
    )
    scale = describe_scale(store, np.concatenate(rows), markup)
    return (
        f"Examples of each true class, {describe_order(selection.query)}, from "
        f"{describe_sample(store, selection, markup)}: {counts}.\n"
        + (f"{scale}\n" if scale else "")
        + describe_training(store, markup)
    )
