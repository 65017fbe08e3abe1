"""Class examples: a grid of cutouts, with one row per class."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.errors import FigureError
from galfig.figures.captions import (
    LIKE,
    ORDERS,
    Markup,
    describe_omitted,
    describe_sample,
    describe_scale,
    describe_training,
    join_lines,
    list_names,
    name_classes,
)
from galfig.figures.drawing import Drawing, DrawOptions, name_galaxies, tabulate_galaxies
from galfig.figures.rows import PAGE_HEIGHT, plot_cutout, plot_scale_bar
from galfig.figures.style import (
    TEXT_WIDTH,
    fit_words,
    paper_style,
    plot_outlined_text,
)
from galfig.store.reader import Store
from galfig.store.selection import Query, Selection, require_labels

# Approximate side of a cutout [inch].
SIDE = 1.1
GAP = 0.04
MARGIN = 0.24
# Side below which an identifier is hard to read [inch].
SMALLEST = 0.7


def make_class_examples(
    store: Store, rows: list[NDArray[np.intp]], width: float | None = None
) -> Figure:
    """Draw cutouts with their identifiers, one row per class.

    Parameters
    ----------
    store : Store
        An open store.
    rows : list of (n,) ndarrays of int
        Positions in the store of the galaxies of each class. A class without any has no row.
    width : float, optional
        Width of the figure [inch]; default 7.1. A narrower figure shows fewer galaxies.

    Returns
    -------
    Figure
    """
    width = width or TEXT_WIDTH
    named = [
        (indices, name)
        for indices, name in zip(rows, name_classes(store), strict=True)
        if len(indices)
    ]
    n_columns = count_columns(width, len(named))
    with paper_style():
        side = _fit_side(width, len(named))
        height = len(named) * (side + GAP)
        fig = Figure(figsize=(width, height))
        for row, (indices, name) in enumerate(named):
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


def count_columns(width: float, n_classes: int) -> int:
    """Return the number of galaxies side by side in a figure of a width [inch].

    With many classes, cutouts are smaller, so that the rows fit on a page.
    """
    side = min(SIDE, PAGE_HEIGHT / n_classes - GAP)
    return max(1, round((width - MARGIN) / (side + GAP)))


def _fit_side(width: float, n_classes: int) -> float:
    """Return the side of a cutout [inch]."""
    by_width = (width - MARGIN - 0.02) / count_columns(width, n_classes) - GAP
    return min(by_width, PAGE_HEIGHT / n_classes - GAP)


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the first galaxies of each class, in the order of a selection."""
    require_labels(store, "examples of each class")
    labels = store.label[selection.indices]
    width = options.width or TEXT_WIDTH
    n_classes, most = len(np.unique(labels[labels >= 0])), int(PAGE_HEIGHT / (SMALLEST + GAP))
    if not n_classes:
        raise FigureError(
            f"{store.path}: none of these galaxies has a true class, expected some to show"
        )
    if n_classes > most:
        raise FigureError(
            f"class-examples: {n_classes} classes, expected at most {most}, which fit on a page"
        )
    n_columns = count_columns(width, n_classes)
    rows = [
        selection.indices[labels == index][:n_columns] for index in range(len(store.class_names))
    ]
    names = [name for name, row in zip(name_classes(store), rows, strict=True) if len(row)]
    return Drawing(
        "class-examples",
        "Examples of each class",
        (make_class_examples(store, rows, options.width),),
        partial(_describe, store, selection, rows),
        f"A grid of cutouts of galaxies, a row for each true class: {list_names(names)}."
        if n_classes > 1
        else f"A row of cutouts of galaxies of true class {names[0]}.",
        partial(tabulate_galaxies, store, np.concatenate(rows)),
        galaxies=name_galaxies(store, np.concatenate(rows)),
    )


def _plot_example(store: Store, index: int, ax: Axes, side: float) -> None:
    cutout, objid = store.cutouts(index), store.objids(index)
    plot_cutout(cutout, ax=ax)
    objid, size = fit_words(objid, 0.94 * side, 6.5)
    plot_outlined_text(0.5, 0.95, objid, ax=ax, size=size, va="top", parse_math=False)
    if np.isfinite(store.pixel_scale[index]):
        scale, kpc = store.pixel_scale[index], store.kpc_per_arcsec[index]
        plot_scale_bar(cutout.shape[1], scale, ax=ax, size=6.0, kpc_per_arcsec=kpc)


def _describe(
    store: Store, selection: Selection, rows: list[NDArray[np.intp]], markup: Markup
) -> str:
    labels = store.label[selection.indices]
    names = [markup.text(name) for name in name_classes(store)]
    counts = ", ".join(
        f"{len(row)} of {np.sum(labels == index)} {names[index]}"
        for index, row in enumerate(rows)
        if len(row)
    )
    lacking = [name for name, row in zip(names, rows, strict=True) if not len(row)]
    n_shown = sum(map(len, rows))
    return join_lines(
        f"Examples of each true class from {describe_sample(store, selection, markup)}: {counts}.",
        f"None of them is of class {list_names(lacking, 'or')}." if lacking else "",
        _describe_first(selection.query) if n_shown < np.sum(labels >= 0) else "",
        describe_omitted(store, selection, "shown", needs_label=True),
        describe_scale(store, np.concatenate(rows), markup),
        describe_training(store, markup),
    )


def _describe_first(query: Query) -> str:
    """Say how the examples were picked from their class, which shows only its first galaxies."""
    if query.objids:
        return ""
    seed = f" (seed {query.seed})" if query.sort == "random" else ""
    order = ORDERS[query.sort] + seed if query.like is None else LIKE
    return f"Those shown of each class are the first {order}."
