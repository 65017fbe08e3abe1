"""Compare: the same galaxies explained by two networks, one row above the other."""

import string
from functools import partial

import numpy as np
from numpy.typing import NDArray

from galfig.errors import FigureError
from galfig.figures.captions import (
    Markup,
    describe_maps,
    describe_network,
    describe_sample,
    describe_scale,
    describe_shift,
    list_galaxies,
    name_classes,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions, name_galaxies, tabulate_galaxies
from galfig.figures.panels import make_row
from galfig.figures.rows import Row, make_rows
from galfig.store.reader import Store
from galfig.store.selection import Selection


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw each galaxy of a selection from the first store, and below it from the second."""
    other = options.other
    if other is None:
        raise FigureError("compare: one store, expected two; name the second with `other`")
    if name_classes(other) != name_classes(store):
        raise FigureError(
            f"{other.path}: its classes are {', '.join(name_classes(other))}, expected the classes "
            f"of {store.path}: {', '.join(name_classes(store))}"
        )
    if 2 * len(selection.indices) > len(string.ascii_lowercase):
        raise FigureError(
            f"compare: {len(selection.indices)} galaxies, expected at most 13; draw fewer (`n`)"
        )
    position = {objid: index for index, objid in enumerate(other.objid)}
    strangers = [o for o in store.objid[selection.indices] if o not in position]
    if strangers:
        raise FigureError(f"{other.path}: no galaxy {strangers[0]!r}, expected it in both stores")
    below = np.array([position[store.objid[index]] for index in selection.indices])
    rows = _pair_rows(store, selection.indices, other, below)
    return Drawing(
        "compare",
        "Two networks compared",
        (make_rows(rows, options.width, cmap=options.cmap),),
        partial(_describe, store, selection, other),
        f"Pairs of rows, one for each of {len(below)} galaxies: cutout and Grad-CAM maps for "
        f"{' and '.join(name_classes(store))} by the first network, and below it by the second.",
        partial(_tabulate, store, selection.indices, other, below),
        galaxies=name_galaxies(store, selection.indices),
    )


def _pair_rows(
    store: Store, above: NDArray[np.intp], other: Store, below: NDArray[np.intp]
) -> list[Row]:
    letters = iter(string.ascii_lowercase)
    every_class = range(len(store.class_names))
    return [
        make_row(source, int(index), every_class, next(letters))
        for pair in zip(above, below, strict=True)
        for source, index in zip((store, other), pair, strict=True)
    ]


def _tabulate(
    store: Store, above: NDArray[np.intp], other: Store, below: NDArray[np.intp]
) -> dict[str, Column]:
    first, second = tabulate_galaxies(store, above), tabulate_galaxies(other, below)
    number = np.repeat([1, 2], len(above))
    return {"network": Column(number, "1: upper row, 2: lower row")} | {
        name: Column(
            np.concatenate([np.asarray(column.values), np.asarray(second[name].values)]),
            column.description,
            column.unit,
        )
        for name, column in first.items()
    }


def _describe(store: Store, selection: Selection, other: Store, markup: Markup) -> str:
    n = len(selection.indices)
    upper, lower = (
        ", ".join(f"({letter})" for letter in string.ascii_lowercase[start : 2 * n : 2])
        for start in (0, 1)
    )
    rows = "row" if n == 1 else "rows"
    both = [source for source in (store, other) if source.record.simulated]
    lines = [
        f"Grad-CAM maps of the same galaxies by two networks: {n} of "
        f"{describe_sample(store, selection, markup, selection.n_candidates)}, all of them "
        "explained by both networks.",
        f"{describe_network(store, markup, f'The network of {rows} {upper}')}",
        describe_shift(store, markup, f"the network of {rows} {upper}"),
        f"{describe_network(other, markup, f'The network of {rows} {lower}')}",
        describe_shift(other, markup, f"the network of {rows} {lower}"),
        "Each row shows the cutout that the network saw and its maps for "
        f"{' and '.join(markup.text(name) for name in name_classes(store))}; the name of the "
        "predicted class is in bold.",
        describe_maps(store, markup),
        describe_scale(store, selection.indices, markup),
        list_galaxies(store, selection.indices, markup),
        "All images and labels are simulated; no real galaxy is shown." if both else "",
    ]
    return "\n".join(line for line in lines if line) + "\n"
