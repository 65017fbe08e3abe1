"""Top losses: the galaxies with the largest loss."""

from functools import partial

import numpy as np

from galfig.config import StyleSettings
from galfig.errors import FigureError
from galfig.figures.annotations import list_words
from galfig.figures.captions import (
    ORDERS,
    Markup,
    count_rows,
    define_symbols,
    describe_facts,
    describe_frames,
    describe_maps,
    describe_omitted,
    describe_reading,
    describe_sample,
    describe_scale,
    describe_training,
    join_lines,
    list_galaxies,
)
from galfig.figures.compass import describe_orientation, find_compasses, read_orientations
from galfig.figures.drawing import Drawing, DrawOptions, name_galaxies, tabulate_galaxies
from galfig.figures.layout import Arrangement, make_pages, settle, warn_if_tall
from galfig.figures.methods import find_words
from galfig.figures.panels import make_row
from galfig.store.reader import Store
from galfig.store.selection import Selection, require_labels


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the galaxies with the largest loss: true class, then the most probable other class."""
    require_labels(store, "top losses")
    losses = store.losses
    labelled = [index for index in selection.indices if store.label[index] >= 0]
    names = dict(zip(labelled, store.objids(np.asarray(labelled, np.intp)), strict=True))
    worst = sorted(labelled, key=lambda index: (-losses[index], names[index]))
    if len(store.class_names) < 2:
        raise FigureError(f"{store.path}: one class, expected another for the map beside it")
    shown = []
    for index in worst:
        right = int(store.label[index])
        others = store.probs[index].copy()
        others[right] = -1
        shown.append((int(index), [right, int(others.argmax())]))
    look = options.style
    words = list_words(store, worst, look)
    compasses = find_compasses(read_orientations(store, worst), look)
    rows = [
        make_row(store, index, classes, own, look, compass)
        for (index, classes), own, compass in zip(shown, words, compasses, strict=True)
    ]
    pages = make_pages(rows, options.width, cmap=options.cmap, style=look, axes=options.axes)
    warn_if_tall("top-losses", pages.arrangement)
    look = settle(look, pages.arrangement)
    return Drawing(
        "top-losses",
        "Galaxies of largest loss",
        pages.figures,
        partial(_describe, store, selection, shown, look, pages.arrangement),
        f"{count_rows(len(worst), rows=pages.arrangement.noun)} with the largest loss: cutout, "
        "map of the true class, map of the most probable other class.",
        partial(tabulate_galaxies, store, np.array(worst)),
        len(pages),
        galaxies=name_galaxies(store, np.array(worst)),
    )


def _describe(
    store: Store,
    selection: Selection,
    shown: list[tuple[int, list[int]]],
    style: StyleSettings,
    arrangement: Arrangement,
    markup: Markup,
) -> str:
    worst = np.array([index for index, _ in shown])
    # In another order than by loss, the galaxies shown are the worst of themselves alone.
    n = selection.n_candidates if selection.query.sort == "loss" else len(selection.indices)
    n_worst = "galaxy" if len(worst) == 1 else f"{len(worst)} galaxies"
    return join_lines(
        f"The {n_worst} with the largest cross-entropy loss among "
        f"{describe_sample(store, selection, markup, n)}.",
        describe_omitted(store, selection, "shown"),
        f"{arrangement.each} shows a galaxy's cutout, "
        f"{'below it ' if arrangement.is_grid else ''}its {find_words(store.record).name} map for "
        "the true "
        "class, and that for the "
        f"most probable of the other classes; {describe_frames(store, shown, style)}.",
        describe_facts(store, worst, markup, style),
        describe_maps(store, markup, style),
        f"{define_symbols(store, markup, style)} {describe_reading(store, shown, markup, style)}",
        f"{describe_scale(store, worst, markup)} "
        f"{describe_orientation(read_orientations(store, worst), style)}",
        list_galaxies(store, worst, markup, ORDERS["loss"], style=style, arrangement=arrangement),
        describe_training(store, markup),
    )
