"""Atlas: every galaxy with its maps, page after page."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.captions import (
    Markup,
    describe_maps,
    describe_order,
    describe_sample,
    describe_scale,
    describe_training,
    name_classes,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions, tabulate_galaxies
from galfig.figures.panels import make_row
from galfig.figures.rows import GAP, SMALLEST_PANEL, fit_panel, make_rows
from galfig.figures.style import TEXT_WIDTH
from galfig.selection import Selection
from galfig.store import Store

# Of a page, less its number [inch].
PAGE_HEIGHT = 8.7


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the galaxies of a selection, in its order, many to a page."""
    n_abreast, n_down = _lay_out(1 + len(store.class_names), options.width or TEXT_WIDTH)
    n_page = n_abreast * n_down
    n_pages = -(-len(selection.indices) // n_page)
    return Drawing(
        "atlas",
        f"Atlas of Grad-CAM maps: {', '.join(name_classes(store))}",
        _draw_pages(store, selection.indices, n_abreast, n_down, options.width),
        partial(_describe, store, selection, n_pages),
        f"{n_pages} pages of {len(selection.indices)} galaxies, each a cutout and its Grad-CAM "
        f"maps for {' and '.join(name_classes(store))}.",
        partial(_tabulate, store, selection.indices, n_page),
        n_pages,
    )


def _draw_pages(
    store: Store, indices: NDArray[np.intp], n_abreast: int, n_down: int, width: float | None
) -> Iterator[Figure]:
    """Draw page after page: memory does not grow with their number."""
    every_class = range(len(store.class_names))
    n_page = n_abreast * n_down
    n_pages = -(-len(indices) // n_page)
    for number, start in enumerate(range(0, len(indices), n_page), 1):
        rows = [
            make_row(store, int(index), every_class) for index in indices[start : start + n_page]
        ]
        footer = f"Page {number} of {n_pages}"
        yield make_rows(rows, width, n_abreast=n_abreast, n_slots=n_page, footer=footer)


def _lay_out(n_panels: int, width: float) -> tuple[int, int]:
    """Return how many galaxies fit side by side, at a size that can be read, and below another."""
    n_abreast = max(1, int(width / (0.7 + 0.9 * n_panels)))
    side = max(fit_panel(n_panels, width / n_abreast), SMALLEST_PANEL)
    return n_abreast, max(1, int(PAGE_HEIGHT / (side + GAP)))


def _tabulate(store: Store, indices: NDArray[np.intp], n_page: int) -> dict[str, Column]:
    page = 1 + np.arange(len(indices)) // n_page
    return {"page": Column(page, "page, from 1")} | tabulate_galaxies(store, indices)


def _describe(store: Store, selection: Selection, n_pages: int, markup: Markup) -> str:
    names = " and ".join(markup.text(name) for name in name_classes(store))
    scale = describe_scale(store, selection.indices, markup)
    return (
        f"Atlas of {describe_sample(store, selection, markup)}, on {n_pages} "
        f"page{'s' if n_pages > 1 else ''}; order: {describe_order(selection.query)} first, down "
        "the columns.\n"
        f"Each row shows a cutout and its Grad-CAM maps for {names}; the name of the predicted "
        "class is in bold.\n"
        f"{describe_maps(store, markup)}\n"
        + (f"{scale}\n" if scale else "")
        + describe_training(store, markup)
    )
