"""Class examples: a grid of cutouts, a row a class."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.captions import Markup, describe_order, describe_sample, describe_training, name_classes
from galfig.figures.rows import plot_cutout, plot_scale_bar
from galfig.figures.save import Drawing
from galfig.figures.style import TEXT_WIDTH, fit_font_size, paper_style, plot_outlined_text
from galfig.selection import Selection, require_labels
from galfig.store import Store

N_COLUMNS = 6
GAP = 0.04
MARGIN = 0.24


def make_class_examples(store: Store, rows: list[NDArray[np.intp]]) -> Figure:
    """Draw cutouts, a row a class, with their identifiers.

    Parameters
    ----------
    store : Store
        An open store.
    rows : list of (n,) ndarrays of int
        Positions in the store of the galaxies of each class; rows may be empty.

    Returns
    -------
    Figure
        7.1 inch wide.
    """
    with paper_style():
        side = (TEXT_WIDTH - MARGIN - 0.02) / N_COLUMNS - GAP
        height = len(rows) * (side + GAP)
        fig = Figure(figsize=(TEXT_WIDTH, height))
        for row, (indices, name) in enumerate(zip(rows, name_classes(store), strict=True)):
            bottom = height - (row + 1) * (side + GAP) + GAP / 2
            fig.text(
                0.5 * MARGIN / TEXT_WIDTH,
                (bottom + side / 2) / height,
                name,
                rotation=90,
                ha="center",
                va="center",
                parse_math=False,
                fontsize=fit_font_size(name, side, 8),
            )
            for column, index in enumerate(indices[:N_COLUMNS]):
                left = MARGIN + column * (side + GAP)
                ax = fig.add_axes(
                    (left / TEXT_WIDTH, bottom / height, side / TEXT_WIDTH, side / height)
                )
                _plot_example(store, int(index), ax, side)
        return fig


def draw(store: Store, selection: Selection) -> Drawing:
    """Draw the first galaxies of each class, in the order of a selection."""
    require_labels(store, "examples of each class")
    labels = store.label[selection.indices]
    rows = [
        selection.indices[labels == index][:N_COLUMNS] for index in range(len(store.class_names))
    ]
    return Drawing(
        "class-examples",
        "Examples of each class",
        make_class_examples(store, rows),
        partial(_describe, store, selection, rows),
    )


def _plot_example(store: Store, index: int, ax: Axes, side: float) -> None:
    cutout, objid = store.cutout(index), str(store.objid[index])
    plot_cutout(cutout, ax=ax)
    size = fit_font_size(objid, 0.94 * side, 6.5)
    plot_outlined_text(0.5, 0.95, objid, ax=ax, size=size, va="top", parse_math=False)
    if np.isfinite(store.pixel_scale[index]):
        plot_scale_bar(cutout.shape[1], store.pixel_scale[index], ax=ax, size=6.0)


def _describe(
    store: Store, selection: Selection, rows: list[NDArray[np.intp]], markup: Markup
) -> str:
    counts = ", ".join(
        f"{len(row)} of {markup.text(name)}"
        for row, name in zip(rows, name_classes(store), strict=True)
    )
    return (
        f"Examples of each true class, {describe_order(selection.query)}, from "
        f"{describe_sample(store, selection, markup)}: {counts}.\n"
        + describe_training(store, markup)
    )
