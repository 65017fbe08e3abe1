"""Panels: one row per galaxy, with its cutout and then its map for each class."""

import logging
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.figures.captions import (
    PLAIN,
    count_rows,
    describe_choice_of_maps,
    describe_panels,
    format_probability,
    name_classes,
)
from galfig.figures.choice import choose_maps, find_classes
from galfig.figures.drawing import Drawing, DrawOptions, name_galaxies, tabulate_galaxies
from galfig.figures.methods import find_words
from galfig.figures.rows import PAGE_HEIGHT, MapLabel, Row, format_total, make_rows
from galfig.store.reader import Store
from galfig.store.selection import Selection

logger = logging.getLogger(__name__)


def make_panels(
    store: Store,
    indices: Sequence[int] | NDArray[np.intp],
    width: float | None = None,
    cmap: str | None = None,
    *,
    chosen: Sequence[int] = (),
) -> Figure:
    """Draw one row per galaxy: its cutout, then maps of classes over the dimmed cutout.

    Parameters
    ----------
    store : Store
        An open store.
    indices : sequence of int
        Positions in the store, from top to bottom.
    width : float, optional
        Width of the figure [inch]; default 7.1, two columns of AASTeX.
    cmap : str, optional
        Colour map; default "inferno".
    chosen : sequence of int, optional
        Classes whose maps are shown; for the default, see `galfig.figures.choice.choose_maps`.

    Returns
    -------
    Figure
        See `galfig.figures.rows.make_rows`.

    Raises
    ------
    FigureError
        If the width is too small for readable panels.
    """
    rows = [make_row(store, int(i), choose_maps(store, int(i), chosen)) for i in indices]
    return make_rows(rows, width, cmap=cmap)


def make_row(store: Store, index: int, class_idx: Sequence[int], letter: str = "") -> Row:
    """Return the row of one galaxy.

    Parameters
    ----------
    store : Store
        An open store.
    index : int
        Position of the galaxy in the store.
    class_idx : sequence of int
        Classes whose maps the row shows; that of the predicted class has a frame.
    letter : str, optional
        Letter of the row.

    Returns
    -------
    Row
    """
    names = name_classes(store)
    cams = store.cams(index)[list(class_idx)]
    totals = cams.sum(axis=(1, 2), dtype=np.float64)
    return Row(
        title=str(store.objid[index]),
        cutout=store.cutouts(index),
        cams=cams,
        labels=[
            MapLabel(
                names[c],
                f"$p {format_probability(store.probs[index, c])}$\n{format_total(total)}",
                is_predicted=bool(c == store.predicted[index]),
            )
            for c, total in zip(class_idx, totals, strict=True)
        ],
        pixel_scale=float(store.pixel_scale[index]),
        kpc_per_arcsec=float(store.kpc_per_arcsec[index]),
        letter=letter,
        method=find_words(store.record),
    )


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the galaxies of a selection; see `make_panels`."""
    chosen = find_classes(store, options.classes)
    fig = make_panels(store, selection.indices, options.width, options.cmap, chosen=chosen)
    height = fig.get_figheight()
    if height > PAGE_HEIGHT + 0.1:
        logger.warning(
            "panels: %.1f inches tall, taller than a page; draw fewer galaxies (`n`)", height
        )
    return Drawing(
        "panels",
        f"{find_words(store.record).title} maps: {', '.join(name_classes(store))}",
        (fig,),
        partial(describe_panels, store, selection, chosen=chosen),
        describe_rows_alt(store, selection.indices, chosen),
        partial(tabulate_galaxies, store, selection.indices),
        galaxies=name_galaxies(store, selection.indices),
    )


def describe_rows_alt(store: Store, indices: NDArray[np.intp], chosen: Sequence[int] = ()) -> str:
    """Describe rows of panels in one sentence of alternative text."""
    is_labelled = store.label[indices] >= 0
    n_right = int(np.sum(is_labelled & (store.predicted[indices] == store.label[indices])))
    rated = f", {n_right or 'none'} of them classified correctly" if is_labelled.all() else ""
    if rated and len(indices) == 1:
        rated = f", classified {'correctly' if n_right else 'incorrectly'}"
    return (
        f"{count_rows(len(indices))}{rated}: a cutout, then the same cutout with its "
        f"{find_words(store.record).name} maps for "
        f"{describe_choice_of_maps(store, PLAIN, chosen)}, on one colour scale per row."
    )
