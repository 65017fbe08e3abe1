"""Class examples: a grid of cutouts, with one row per class."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.config import DEFAULT_STYLE, StyleSettings
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
from galfig.figures.compass import (
    Compass,
    describe_orientation,
    find_compasses,
    read_orientations,
)
from galfig.figures.drawing import Drawing, DrawOptions, name_galaxies, tabulate_galaxies
from galfig.figures.rows import add_axes, find_room, plot_cutout, plot_references
from galfig.figures.style import (
    MAX_LINES,
    find_page,
    fit_words,
    measure_lines,
    paper_style,
    plot_outlined_text,
    scale_font,
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
    store: Store,
    rows: list[NDArray[np.intp]],
    width: float | None = None,
    style: StyleSettings = DEFAULT_STYLE,
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
    style : StyleSettings, optional
        Whether cutouts have a compass.

    Returns
    -------
    Figure
    """
    named = [
        (indices, name)
        for indices, name in zip(rows, name_classes(store), strict=True)
        if len(indices)
    ]
    with paper_style():
        width, page = find_room(width)
        grid = _arrange(width, page, [name for _, name in named])
        content = len(named) * (grid.side + GAP)
        height = content if find_page() is None else page
        spare = (height - content) / 2
        left = grid.margin
        if find_page() is not None:
            left += (width - grid.margin - grid.n_columns * (grid.side + GAP)) / 2
        fig = Figure(figsize=(width, height))
        shown = np.concatenate([indices[: grid.n_columns] for indices, _ in named])
        compasses = iter(find_compasses(read_orientations(store, shown), style))
        for row, (indices, _) in enumerate(named):
            words, size = grid.names[row]
            bottom = height - spare - (row + 1) * (grid.side + GAP) + GAP / 2
            fig.text(
                (left - 0.5 * grid.margin) / width,
                (bottom + grid.side / 2) / height,
                words,
                rotation=90,
                ha="center",
                va="center",
                multialignment="center",
                parse_math=False,
                fontsize=size,
            )
            for column, index in enumerate(indices[: grid.n_columns]):
                start = left + column * (grid.side + GAP)
                ax = add_axes(fig, start, bottom, grid.side, grid.side)
                _plot_example(store, int(index), ax, grid.side, next(compasses))
        return fig


class _Grid(NamedTuple):
    """Sizes of a grid of cutouts.

    Attributes
    ----------
    side : float
        Side of a cutout [inch].
    n_columns : int
        Number of galaxies side by side.
    margin : float
        Room for the names of the classes [inch].
    names : sequence of (str, float)
        These names in lines, and their font sizes [pt].
    """

    side: float
    n_columns: int
    margin: float
    names: Sequence[tuple[str, float]]


def _arrange(width: float, page_height: float, names: Sequence[str]) -> _Grid:
    """Choose the sizes of a grid with a row for each class, which fits on a page."""
    margin = MARGIN
    # Smaller cutouts break the names into more lines, which leave less room for cutouts.
    for _ in range(MAX_LINES):
        by_height = (page_height - 0.02) / len(names) - GAP
        # With fewer galaxies side by side, their identifiers need not be broken.
        n_columns = max(1, int((width - margin) / (min(SIDE, by_height) + GAP) + 0.1))
        side = min((width - margin - 0.02) / n_columns - GAP, by_height)
        fitted = [fit_words(name, 0.92 * side, scale_font(8), n_lines=MAX_LINES) for name in names]
        needed = max(measure_lines(words, size) + 0.06 for words, size in fitted)
        if needed <= margin:
            break
        margin = needed
    size = min(found for _, found in fitted)
    return _Grid(side, n_columns, margin, [(words, size) for words, _ in fitted])


def count_columns(width: float | None, names: Sequence[str]) -> int:
    """Return the number of galaxies side by side in a figure.

    With many classes, cutouts are smaller, so that the rows fit on a page.

    Parameters
    ----------
    width : float or None
        Width that the user asks for [inch].
    names : sequence of str
        The classes, one for each row.
    """
    return _arrange(*find_room(width), names).n_columns


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the first galaxies of each class, in the order of a selection."""
    require_labels(store, "examples of each class")
    labels = store.label[selection.indices]
    shown = np.unique(labels[labels >= 0])
    n_classes, most = len(shown), int(find_room(options.width)[1] / (SMALLEST + GAP))
    if not n_classes:
        raise FigureError(
            f"{store.path}: none of these galaxies has a true class, expected some to show"
        )
    if n_classes > most:
        raise FigureError(
            f"class-examples: {n_classes} classes, expected at most {most}, which fit on a page"
        )
    n_columns = count_columns(options.width, [name_classes(store)[c] for c in shown])
    rows = [
        selection.indices[labels == index][:n_columns] for index in range(len(store.class_names))
    ]
    names = [name for name, row in zip(name_classes(store), rows, strict=True) if len(row)]
    return Drawing(
        "class-examples",
        "Examples of each class",
        (make_class_examples(store, rows, options.width, options.style),),
        partial(_describe, store, selection, rows, options.style),
        f"A grid of cutouts of galaxies, a row for each true class: {list_names(names)}."
        if n_classes > 1
        else f"A row of cutouts of galaxies of true class {names[0]}.",
        partial(tabulate_galaxies, store, np.concatenate(rows)),
        galaxies=name_galaxies(store, np.concatenate(rows)),
    )


def _plot_example(store: Store, index: int, ax: Axes, side: float, compass: Compass | None) -> None:
    cutout, objid = store.cutouts(index), store.objids(index)
    plot_cutout(cutout, ax=ax)
    objid, size = fit_words(objid, 0.94 * side, scale_font(6.5))
    plot_outlined_text(0.5, 0.95, objid, ax=ax, size=size, va="top", parse_math=False)
    plot_references(
        cutout.shape[1],
        float(store.pixel_scale[index]),
        compass,
        ax=ax,
        side=side,
        size=scale_font(6.0),
        kpc_per_arcsec=float(store.kpc_per_arcsec[index]),
    )


def _describe(
    store: Store,
    selection: Selection,
    rows: list[NDArray[np.intp]],
    style: StyleSettings,
    markup: Markup,
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
        f"{describe_scale(store, np.concatenate(rows), markup)} "
        f"{describe_orientation(read_orientations(store, np.concatenate(rows)), style)}",
        describe_training(store, markup),
    )


def _describe_first(query: Query) -> str:
    """Say how the examples were picked from their class, which shows only its first galaxies."""
    if query.objids:
        return ""
    seed = f" (seed {query.seed})" if query.sort == "random" else ""
    order = ORDERS[query.sort] + seed if query.like is None else LIKE
    return f"Those shown of each class are the first {order}."
