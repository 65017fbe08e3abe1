"""Atlas: every galaxy with its maps, page after page.

A page holds dozens of galaxies. Separate axes and outlined text for each galaxy would take a second
per page. The panels of a page are therefore composed as one image, with plain text below them.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from galfig.errors import FigureError
from galfig.figures.captions import (
    ORDERS,
    Markup,
    cite_method,
    count_noun,
    describe_channels,
    describe_explained,
    describe_limits,
    describe_omitted,
    describe_sample,
    describe_size,
    describe_training,
    format_probability,
    join_lines,
    list_classes,
    name_classes,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions, tabulate_galaxies
from galfig.figures.methods import MethodWords, find_words
from galfig.figures.painting import paint_map, tabulate_colors
from galfig.figures.rows import COLORMAP, FADE, format_number, format_total
from galfig.figures.style import (
    MAX_WIDTH,
    MIN_FONT_SIZE,
    TEXT_WIDTH,
    fit_words,
    paper_style,
    spell_missing,
)
from galfig.store.reader import Store
from galfig.store.selection import Selection

DPI = 300
# Height of a page, of its column headings, and of its footer with the colour bar [inch].
HEIGHT, HEAD, FOOT = 9.2, 0.3, 0.42
# Approximate side of a panel, height of the text below it, and gap between galaxies [inch].
SIDE, WORDS, GAP = 0.56, 0.34, 0.12
# Distance between the lines of that text [inch].
LINE = 0.1
# Width of the frame of the predicted class, and its distance from the edge [pixels].
FRAME, INSET = 3, 3


@dataclass(frozen=True)
class Layout:
    """Positions of the galaxies on a page.

    Attributes
    ----------
    width : float
        Width of the page [inch].
    n_panels : int
        Panels per galaxy: the cutout, and a map for each class.
    cmap : str
        Colour map.
    """

    width: float
    n_panels: int
    cmap: str = COLORMAP

    @cached_property
    def n_abreast(self) -> int:
        """Number of galaxies side by side."""
        return max(1, int((self.width + GAP) / (self.n_panels * SIDE + GAP)))

    @cached_property
    def side(self) -> int:
        """Side of a panel [pixels of the page image]."""
        block = (self.width + GAP) / self.n_abreast - GAP
        return int(DPI * block / self.n_panels)

    @cached_property
    def n_down(self) -> int:
        """Number of galaxies in a column."""
        return int((HEIGHT - HEAD - FOOT) / (self.side / DPI + WORDS))

    @property
    def n_page(self) -> int:
        """Number of galaxies on a page."""
        return self.n_abreast * self.n_down

    def place(self, number: int) -> tuple[int, int]:
        """Return the left and top [pixels] of galaxy ``number`` (from 0); columns fill first."""
        column, row = divmod(number, self.n_down)
        left = column * (self.width + GAP) / self.n_abreast
        return round(DPI * left), round(DPI * HEAD + row * (self.side + DPI * WORDS))


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the galaxies of a selection, in its order, many to a page."""
    layout = Layout(
        options.width or TEXT_WIDTH, 1 + len(store.class_names), options.cmap or COLORMAP
    )
    if layout.side < DPI * SIDE / 2:
        raise FigureError(
            f"atlas: {layout.width:g} inches for {layout.n_panels} panels, expected at least "
            f"{layout.n_panels * SIDE / 2:.1f}; "
            + (
                "draw it wider (`width`)"
                if layout.n_panels * SIDE / 2 <= MAX_WIDTH
                else "'top-losses' shows two maps of each galaxy"
            )
        )
    n_pages = -(-len(selection.indices) // layout.n_page)
    return Drawing(
        "atlas",
        f"Atlas of {find_words(store.record).name} maps: {', '.join(name_classes(store))}",
        _Pages(store, selection.indices, layout, n_pages),
        partial(_describe, store, selection, n_pages),
        f"{count_noun(n_pages, 'page')} of {count_noun(len(selection.indices))}, each a cutout and "
        f"its {find_words(store.record).name} maps for {list_classes(store)}.",
        partial(_tabulate, store, selection.indices, layout.n_page),
        n_pages,
        describe_page=partial(_describe_page, store, selection.indices, layout.n_page),
    )


def compose_galaxy(
    cutout: NDArray[np.uint8],
    cams: NDArray[np.float32],
    side: int,
    cmap: str = COLORMAP,
    predicted: int | None = None,
) -> NDArray[np.uint8]:
    """Draw a cutout and its maps side by side as an image.

    Parameters
    ----------
    cutout : (H, W, 3) ndarray of uint8
        The cutout.
    cams : (C, h, w) ndarray of float32
        Its signed maps. They share one scale, from zero to the largest value among them.
    side : int
        Side of each panel [pixels].
    cmap : str, default "inferno"
        Colour map.
    predicted : int, optional
        Class whose map has a frame.

    Returns
    -------
    (side, (1 + C) * side, 3) ndarray of uint8
        The maps as `galfig.figures.rows.plot_map` draws them, over the dimmed cutout.
    """
    peak = float(cams.max(initial=0.0))
    # Compose at the resolution of the cutout, then enlarge without interpolation: the result
    # compresses fast, and the pixels are too small to see in print.
    if cutout.shape[0] > side:
        cutout = np.asarray(Image.fromarray(cutout).resize((side, side), Image.Resampling.BILINEAR))
    panels = [cutout, *(paint_map(cam, cutout, peak, cmap) for cam in cams)]
    row = Image.fromarray(np.concatenate(panels, axis=1))
    image = np.array(row.resize((len(panels) * side, side), Image.Resampling.NEAREST))
    if predicted is not None:
        _draw_frame(image[:, (1 + predicted) * side : (2 + predicted) * side])
    return image


def _draw_frame(panel: NDArray[np.uint8]) -> None:
    """Draw a white frame with a dark outline just inside a panel."""
    for outer, color in ((INSET - 1, 0), (INSET, 255)):
        width = FRAME + 2 * (INSET - outer)
        inside = panel[outer : len(panel) - outer, outer : len(panel) - outer]
        kept = inside[width:-width, width:-width].copy()
        inside[:] = color
        inside[width:-width, width:-width] = kept


@dataclass(frozen=True)
class _Pages:
    """The pages of an atlas, drawn anew on each iteration so that they do not fill the memory."""

    store: Store
    indices: NDArray[np.intp]
    layout: Layout
    n_pages: int

    def __iter__(self) -> Iterator[Figure]:
        """Draw page after page, and compose the next one while the caller writes this one."""
        n_page, store, layout = self.layout.n_page, self.store, self.layout
        batches = np.split(self.indices, range(n_page, len(self.indices), n_page))
        with ThreadPoolExecutor(1) as pool:
            composed = pool.submit(_compose_page, store, batches[0], layout)
            for number, batch in enumerate(batches, 1):
                image, numbers = composed.result()
                if number < len(batches):
                    composed = pool.submit(_compose_page, store, batches[number], layout)
                footer = f"Page {number} of {self.n_pages}"
                page = _draw_page(store, batch, image, numbers, layout, footer)
                yield page
                # The caller has written it. The parts of a figure refer to each other, so that its
                # image would stay until the next garbage collection.
                page.clear()
                del image, page


@dataclass(frozen=True)
class _Numbers:
    """What is written below a galaxy: the peak of its maps, and the total of each map."""

    peak: float
    totals: NDArray[np.float64]


def _compose_page(
    store: Store, indices: NDArray[np.intp], layout: Layout
) -> tuple[NDArray[np.uint8], list[_Numbers]]:
    """Return the panels of a page as one image, and the numbers of each galaxy."""
    # RGBA, because matplotlib would otherwise convert the image.
    shape = (round(DPI * HEIGHT), round(DPI * layout.width), 4)
    image, numbers = np.full(shape, 255, np.uint8), []
    for number, index in enumerate(indices):
        left, top = layout.place(number)
        cams, predicted = store.cams(int(index)), int(store.predicted[index])
        cutout = store.cutouts(int(index))
        panels = compose_galaxy(cutout, cams, layout.side, layout.cmap, predicted)
        image[top : top + layout.side, left : left + panels.shape[1], :3] = panels
        totals = cams.sum(axis=(1, 2), dtype=np.float64)
        numbers.append(_Numbers(float(cams.max(initial=0.0)), totals))
    return image, numbers


def _draw_page(
    store: Store,
    indices: NDArray[np.intp],
    image: NDArray[np.uint8],
    numbers: list[_Numbers],
    layout: Layout,
    footer: str,
) -> Figure:
    height, width = image.shape[:2]
    with paper_style():
        fig = Figure(figsize=(layout.width, HEIGHT))
        # The units of the axes are the pixels of the image.
        ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        ax.set_axis_off()
        ax.imshow(image, extent=(0, width, height, 0), interpolation="none", aspect="auto")
        for number, (index, found) in enumerate(zip(indices, numbers, strict=True)):
            _write_words(store, int(index), found, layout, number, ax)
        _write_heads(store, layout, -(-len(indices) // layout.n_down), ax)
        _plot_key(fig, layout, footer, find_words(store.record))
        return fig


def _write_words(
    store: Store, index: int, numbers: _Numbers, layout: Layout, number: int, ax: Axes
) -> None:
    """Write the identifier, the peak of the maps, probabilities and totals below a galaxy."""
    left, top = layout.place(number)
    bottom = top + layout.side
    style: dict[str, Any] = {"fontsize": MIN_FONT_SIZE, "va": "top", "parse_math": False}
    redshift = store.redshift[index]
    name = spell_missing(store.objids(index))
    if np.isfinite(redshift):
        name = f"{name}, z = {redshift:.3f}"
    ax.text(left, bottom + 0.02 * DPI, name, **style)
    line = bottom + (0.02 + LINE) * DPI
    peak = numbers.peak
    ax.text(left, line, format_number(peak) if peak > 0 else "0", **style)
    for c, (p, total) in enumerate(zip(store.probs[index], numbers.totals, strict=True)):
        weight = "bold" if c == store.predicted[index] else "normal"
        words = f"p {format_probability(p)}\n{format_total(total)}"
        ax.text(left + (c + 1) * layout.side, line, words, weight=weight, linespacing=1.1, **style)


def _write_heads(store: Store, layout: Layout, n_columns: int, ax: Axes) -> None:
    """Write the headings of the panels above each column that has galaxies."""
    heads = ("cutout", *name_classes(store))
    for column in range(n_columns):
        left, top = layout.place(column * layout.n_down)
        for panel, words in enumerate(heads):
            lines, size = fit_words(words, 0.95 * layout.side / DPI, 7)
            ax.text(
                left + (panel + 0.5) * layout.side,
                top - 0.03 * DPI,
                lines,
                fontsize=size,
                ha="center",
                va="bottom",
                parse_math=False,
            )


def _plot_key(fig: Figure, layout: Layout, footer: str, method: MethodWords) -> None:
    """Draw the colour bar from zero to the peak, and the page number."""
    bar = fig.add_axes((0.02, 0.21 / HEIGHT, min(0.2, 1.2 / layout.width), 0.08 / HEIGHT))
    ramp = np.linspace(0.0, 1.0, 256)
    alpha = np.minimum(ramp / FADE, 1.0)[:, None]
    colors = (alpha * tabulate_colors(layout.cmap)).astype(np.uint8)[None]
    bar.imshow(colors, extent=(0, 1, 0, 1), aspect="auto", interpolation="nearest")
    bar.set_yticks([])
    bar.set_xticks([0, 1], ["0", f"peak [{method.unit}]"], fontsize=MIN_FONT_SIZE)
    bar.tick_params(length=1.5, pad=1.5)
    fig.text(0.5, 0.08 / HEIGHT, footer, ha="center", fontsize=7, parse_math=False)


def _tabulate(store: Store, indices: NDArray[np.intp], n_page: int) -> dict[str, Column]:
    page = 1 + np.arange(len(indices)) // n_page
    return {"page": Column(page, "page, from 1")} | tabulate_galaxies(store, indices)


def _describe(store: Store, selection: Selection, n_pages: int, markup: Markup) -> str:
    n_redshift = int(np.isfinite(store.redshift[selection.indices]).sum())
    redshift = ""
    if n_redshift:
        known = "" if n_redshift == len(selection.indices) else ", where it is known,"
        redshift = f" and{known} the redshift"
    shape = store.cutouts(int(selection.indices[0])).shape
    p, sigma, method = markup.math("p"), markup.sigma, find_words(store.record)
    return join_lines(
        f"Atlas of {describe_sample(store, selection, markup)}, on {count_noun(n_pages, 'page')}, "
        f"down the columns{_describe_order(selection)}.",
        describe_omitted(store, selection, "shown"),
        f"Each galaxy is shown by its cutout ({describe_size(store, shape, markup)}) and its "
        f"{method.name} maps{cite_method(store, markup)} for {list_classes(store, markup)}, which "
        f"explain {describe_explained(store, markup)}, drawn over the dimmed cutout. Only "
        "positive values are shown, on one linear colour scale from zero to the galaxy's peak; "
        f"below a tenth of the peak, the cutout shows through. {describe_limits(store, markup)}",
        f"The labels give the identifier{redshift}, the peak {method.units} and, for each class, "
        f"the probability {p}, which is the softmax of the network's output, and {sigma}, the sum "
        f"of the map over its pixels, negative ones included, {method.units}. The predicted class "
        f"is in bold, and its map has a white frame. The brightness of a map is not {p}.",
        describe_channels(store, markup),
        describe_training(store, markup),
    )


def _describe_page(
    store: Store, indices: NDArray[np.intp], n_page: int, number: int, markup: Markup
) -> tuple[str, str]:
    """Return title and caption of a page, from 1: which galaxies are on it."""
    start = (number - 1) * n_page
    shown = indices[start : start + n_page]
    first, last = (markup.text(store.objids(int(index))) for index in (shown[0], shown[-1]))
    which = f"Galaxy {first}" if len(shown) == 1 else f"Galaxies {first} to {last}"
    numbers = f"number {start + 1}" if len(shown) == 1 else f"{start + 1} to {start + len(shown)}"
    return which, (
        f"{which}, {numbers} of {len(indices)} in the order of the atlas, down the columns, "
        f"each with its {find_words(store.record).name} maps for {list_classes(store, markup)}. "
        "The caption of the atlas explains colours and labels."
    )


def _describe_order(selection: Selection) -> str:
    """Say how the galaxies are ordered; "" where the choice of the galaxies says it already."""
    query, is_part = selection.query, len(selection.indices) < selection.n_candidates
    if query.objids:
        return ", in the order given"
    if is_part or query.like is not None:
        return ""
    seed = f" (seed {query.seed})" if query.sort == "random" else ""
    return f", {ORDERS[query.sort]}{seed}"
