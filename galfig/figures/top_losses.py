"""Top losses: the galaxies with the largest loss."""

from functools import partial

import numpy as np

from galfig.figures.captions import (
    Markup,
    describe_maps,
    describe_sample,
    describe_scale,
    describe_training,
    list_galaxies,
)
from galfig.figures.drawing import Drawing, DrawOptions, name_galaxies, tabulate_galaxies
from galfig.figures.panels import make_row
from galfig.figures.rows import make_rows
from galfig.store.reader import Store
from galfig.store.selection import Selection, require_labels


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the galaxies with the largest loss: true class, then the most probable other class."""
    require_labels(store, "top losses")
    losses = store.losses
    labelled = [index for index in selection.indices if store.label[index] >= 0]
    worst = sorted(labelled, key=lambda index: (-losses[index], store.objid[index]))
    rows = []
    for index in worst:
        right = int(store.label[index])
        others = store.probs[index].copy()
        others[right] = -1
        rows.append(make_row(store, int(index), [right, int(others.argmax())]))
    return Drawing(
        "top-losses",
        "Galaxies of largest loss",
        (make_rows(rows, options.width, cmap=options.cmap),),
        partial(_describe, store, selection, worst),
        f"Rows of panels, one for each of the {len(worst)} galaxies with the largest loss: cutout, "
        "map of the true class, map of the most probable other class.",
        partial(tabulate_galaxies, store, np.array(worst)),
        galaxies=name_galaxies(store, np.array(worst)),
    )


def _describe(store: Store, selection: Selection, worst: list[int], markup: Markup) -> str:
    scale = describe_scale(store, np.array(worst), markup)
    # In another order than by loss, the galaxies shown are the worst of themselves alone.
    n = selection.n_candidates if selection.query.sort == "loss" else len(selection.indices)
    return (
        f"The {len(worst)} galaxies with the largest cross-entropy loss among "
        f"{describe_sample(store, selection, markup, n)}.\n"
        "Each row shows a galaxy's cutout, its Grad-CAM map for the true class, and that for the "
        "most probable of the other classes; the name of the predicted class is in bold.\n"
        f"{describe_maps(store, markup)}\n"
        + (f"{scale}\n" if scale else "")
        + f"{list_galaxies(store, worst, markup)}\n"
        + describe_training(store, markup)
    )
