"""Atlas: every galaxy with its maps, page after page.

A page holds dozens of galaxies. Separate axes and outlined text for each galaxy would take a second
per page. The panels of a page are therefore composed as one image, with plain text below them.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.errors import FigureError
from galfig.figures.captions import (
    ORDERS,
    PLACES,
    PLAIN,
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
    mark_frames,
    name_classes,
)
from galfig.figures.choice import find_classes
from galfig.figures.composing import compose_galaxy, tabulate_colors
from galfig.figures.drawing import Column, Drawing, DrawOptions, tabulate_galaxies
from galfig.figures.methods import MethodWords, find_words
from galfig.figures.rows import (
    FADE,
    Look,
    find_peak,
    format_number,
    format_total,
    list_levels,
    name_end,
)
from galfig.figures.style import (
    MAX_LINES,
    MAX_WIDTH,
    MIN_FONT_SIZE,
    TEXT_WIDTH,
    find_ground,
    find_page,
    fit_words,
    measure_lines,
    measure_words,
    paper_style,
    scale_font,
    spell_missing,
)
from galfig.store.reader import Store
from galfig.store.selection import Selection

DPI = 300
# Height of a page, of its column headings, and of its footer with the colour bar [inch].
HEIGHT, HEAD, FOOT = 9.2, 0.3, 0.42
# Approximate side of a panel, smallest one with room for the numbers below it, largest one on a
# slide, and gap between galaxies [inch].
SIDE, SMALLEST, LARGEST, GAP = 0.56, 0.46, 1.2, 0.12
# Distance between the lines of text below a galaxy, and room beside them [inch].
LINE, MARGIN = 0.1, 0.04


@dataclass(frozen=True)
class Layout:
    """Positions of the galaxies on a page.

    Attributes
    ----------
    width, height : float
        Size of the page [inch].
    classes : tuple of int
        Classes whose maps follow the cutout.
    names : tuple of str
        Names of these classes.
    look : Look
        How maps are drawn.
    facts : tuple of float
        Widths of the widest identifier, redshift and true class [inch]; 0 for what none has.
    scale : float
        Size of text in units of that of print.
    is_slide : bool
        Whether panels are as large as fill the page best.
    shared : float
        End of the colour scale that all galaxies share; 0 where they share none.
    """

    width: float
    height: float
    classes: tuple[int, ...]
    names: tuple[str, ...]
    look: Look
    facts: tuple[float, ...] = (0.0,)
    scale: float = 1.0
    is_slide: bool = False
    shared: float = 0.0

    @property
    def n_panels(self) -> int:
        """Panels per galaxy: the cutout, and its maps."""
        return 1 + len(self.classes)

    @cached_property
    def n_abreast(self) -> int:
        """Number of galaxies side by side."""
        most = max(1, int((self.width + GAP) / (self.n_panels * SIDE * self.scale + GAP)))
        if not self.is_slide:
            return most
        sizes = range(1, most + 1)
        return max(
            [n for n in sizes if self._fit_side(n) <= LARGEST] or sizes, key=self._measure_area
        )

    def _measure_area(self, n_abreast: int) -> float:
        """Return the area of all panels of a page with so many galaxies side by side [inch²]."""
        side = self._fit_side(n_abreast)
        n_down = int((self.height - (HEAD + FOOT) * self.scale) / (side + self._fit_words(side)))
        return n_abreast * n_down * side**2

    def _fit_side(self, n_abreast: int) -> float:
        """Return the side of a panel, with so many galaxies side by side [inch]."""
        block = (self.width + GAP) / n_abreast - GAP
        return block / self.n_panels

    def _fit_words(self, side: float) -> float:
        """Return the height of the text below panels of a side [inch]."""
        n_lines = self._count_facts(side) + 2 + self.count_ends(side)
        return (LINE * n_lines + 0.04) * self.scale

    def count_ends(self, side: float) -> int:
        """Return in how many lines it is said where a scale ends, below panels of a side [inch]."""
        if self.look.scale != "panel":
            return 0
        longest = name_end(8.8e-8, self.look.is_signed)
        width = measure_words(longest, MIN_FONT_SIZE * self.scale, "bold")
        return 1 if width <= side - MARGIN else 2

    def _count_facts(self, side: float) -> int:
        """Return in how many lines the identifier and the facts about a galaxy are written."""
        return len(self._share_facts(side))

    def _share_facts(self, side: float) -> list[list[int]]:
        """Return which facts about a galaxy stand on each line below panels of a side [inch]."""
        room = self.n_panels * side - MARGIN
        lines: list[list[int]] = [[]]
        for number, width in enumerate(self.facts):
            before = sum(self.facts[one] for one in lines[-1])
            if lines[-1] and width and before + width > room:
                lines.append([])
            lines[-1].append(number)
        return lines

    @cached_property
    def side(self) -> int:
        """Side of a panel [pixels of the page image]."""
        return int(DPI * self._fit_side(self.n_abreast))

    @property
    def block(self) -> float:
        """Width of the panels of a galaxy [inch]."""
        return self.n_panels * self.side / DPI

    @cached_property
    def headings(self) -> tuple[tuple[str, float], ...]:
        """Heading of each panel, in lines, and its font size [pt]."""
        room = self.side / DPI - MARGIN
        fitted = [
            fit_words(words, room, 7 * self.scale, n_lines=MAX_LINES)
            for words in ("cutout", *self.names)
        ]
        size = min(found for _, found in fitted)
        return tuple((words, size) for words, _ in fitted)

    @cached_property
    def head(self) -> float:
        """Height of the headings [inch]."""
        tallest = max(measure_lines(words, size) for words, size in self.headings)
        return max(HEAD * self.scale, tallest + 0.06)

    @cached_property
    def lines(self) -> list[list[int]]:
        """Which facts about a galaxy stand on each line."""
        return self._share_facts(self.side / DPI)

    @property
    def words(self) -> float:
        """Height of the text below a galaxy [inch]."""
        return self._fit_words(self.side / DPI)

    @cached_property
    def n_down(self) -> int:
        """Number of galaxies in a column of a full page."""
        room = self.height - self.head - FOOT * self.scale
        # A page that is as tall as what stands on it holds all of it.
        return max(1, int(room / (self.side / DPI + self.words) + 1e-6))

    @property
    def n_page(self) -> int:
        """Number of galaxies on a page."""
        return self.n_abreast * self.n_down

    def count_down(self, n: int) -> int:
        """Return how many of n galaxies on a page stand in a column: as many in each as can be."""
        return -(-n // self.n_abreast)

    def measure_content(self, n: int) -> float:
        """Return the height of what stands on a page with n galaxies [inch]."""
        rows = self.count_down(n) * (self.side / DPI + self.words)
        return self.head + rows + FOOT * self.scale

    def place(self, number: int, n: int) -> tuple[int, int]:
        """Return the left and top [pixels] of galaxy ``number`` of n; columns fill first."""
        column, row = divmod(number, self.count_down(n))
        left = column * (self.width + GAP) / self.n_abreast
        return round(DPI * left), round(DPI * self.head + row * (self.side + DPI * self.words))


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the galaxies of a selection, in its order, many to a page."""
    indices = np.asarray(selection.indices, np.intp)
    layout = _arrange(store, indices, options)
    n_pages = -(-len(indices) // layout.n_page)
    maps = f"{find_words(store.record).name} maps"
    return Drawing(
        "atlas",
        f"Atlas of {maps}: {', '.join(layout.names)}",
        _Pages(store, indices, layout, n_pages),
        partial(_describe, store, selection, n_pages, layout),
        f"{count_noun(n_pages, 'page')} of {count_noun(len(indices))}, each a cutout and "
        f"its {maps} for {list_classes(store, PLAIN, layout.classes)}.",
        partial(_tabulate, store, indices, layout.n_page),
        n_pages,
        describe_page=partial(_describe_page, store, selection.indices, layout.n_page),
    )


def _arrange(store: Store, indices: NDArray[np.intp], options: DrawOptions) -> Layout:
    """Lay the pages out."""
    style, page = options.style, find_page()
    width, height = options.width or TEXT_WIDTH, HEIGHT
    if page is not None:
        width = options.width or page[0]
        height = page[1] * width / page[0]
    classes = find_classes(store, options.classes) or tuple(range(len(store.class_names)))
    look = Look(options.cmap, style.negative, style.overlay, style.scale)
    names, scale = name_classes(store), scale_font(1.0)
    layout = Layout(
        *(width, height, classes, tuple(names[c] for c in classes), look),
        *(_measure_facts(store, indices, MIN_FONT_SIZE * scale), scale, page is not None),
    )
    if layout.side < DPI * SMALLEST * scale:
        needed = math.ceil(10 * layout.n_panels * SMALLEST * scale) / 10
        advice = "draw fewer maps (`classes`)"
        if needed <= MAX_WIDTH:
            advice = "draw it wider (`width`), or fewer maps (`classes`)"
        raise FigureError(
            f"atlas: {width:g} inches for {layout.n_panels} panels, expected at least {needed:g}; "
            f"{advice}"
        )
    if page is not None:
        # A slide that is narrow is taller than its style has it.
        layout = replace(layout, height=max(height, layout.measure_content(1)))
    elif len(indices) <= layout.n_page:
        # One page need not be taller than what stands on it.
        layout = replace(layout, height=min(height, layout.measure_content(len(indices))))
    if look.scale != "figure":
        return layout
    maps = (store.cams(int(index))[list(classes)] for index in indices)
    return replace(layout, shared=max(find_peak(cams, look.is_signed) for cams in maps))


def _measure_facts(store: Store, indices: NDArray[np.intp], size: float) -> tuple[float, ...]:
    """Return the widths of the widest identifier, redshift and true class [inch]; 0 for none."""
    objid = "0" * max(map(len, store.objids(indices)))
    redshift = "z = 0.000, " if np.isfinite(store.redshift[indices]).any() else ""
    labels = np.unique(store.label[indices])
    names = [f"true: {name_classes(store)[label]}" for label in labels if label >= 0]
    return tuple(
        max((measure_words(words, size) for words in found if words), default=0.0)
        for found in ([f"{objid}, "], [redshift], names)
    )


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
        # The style of a thread is not that of another.
        ground = tuple(round(255 * share) for share in to_rgb(find_ground()))
        with ThreadPoolExecutor(1) as pool:
            composed = pool.submit(_compose_page, store, batches[0], layout, ground)
            for number, batch in enumerate(batches, 1):
                image, numbers = composed.result()
                if number < len(batches):
                    composed = pool.submit(_compose_page, store, batches[number], layout, ground)
                footer = f"Page {number} of {self.n_pages}"
                page = _draw_page(store, batch, image, numbers, layout, footer)
                yield page
                # The caller has written it. The parts of a figure refer to each other, so that its
                # image would stay until the next garbage collection. Of one page, the caller may
                # ask for the next before it is written.
                if self.n_pages > 1:
                    page.clear()
                del image, page


@dataclass(frozen=True)
class _Numbers:
    """What is written below a galaxy: where the scale of each map ends, and its total."""

    peaks: Sequence[float]
    totals: NDArray[np.float64]


def _compose_page(
    store: Store, indices: NDArray[np.intp], layout: Layout, ground: Sequence[int]
) -> tuple[NDArray[np.uint8], list[_Numbers]]:
    """Return the panels of a page as one image, and the numbers of each galaxy."""
    # RGBA, because matplotlib would otherwise convert the image.
    shape = (round(DPI * layout.height), round(DPI * layout.width), 4)
    image, numbers = np.full(shape, 255, np.uint8), []
    image[..., :3] = ground
    for number, index in enumerate(indices):
        left, top = layout.place(number, len(indices))
        cams = store.cams(int(index))[list(layout.classes)]
        peaks = _find_peaks(cams, layout)
        predicted, label = int(store.predicted[index]), int(store.label[index])
        panels = compose_galaxy(
            store.cutouts(int(index)),
            cams,
            layout.side,
            layout.look,
            peaks=peaks,
            predicted=_find_shown(layout, predicted),
            true=None if label < 0 else _find_shown(layout, label),
        )
        image[top : top + layout.side, left : left + panels.shape[1], :3] = panels
        numbers.append(_Numbers(peaks, cams.sum(axis=(1, 2), dtype=np.float64)))
    return image, numbers


def _find_shown(layout: Layout, class_idx: int) -> int:
    """Return which of the maps shown is that of a class; -1 for none."""
    return layout.classes.index(class_idx) if class_idx in layout.classes else -1


def _find_peaks(cams: NDArray[np.float32], layout: Layout) -> list[float]:
    """Return where the colour scale of each map ends."""
    look = layout.look
    if look.scale == "panel":
        return [find_peak(cam, look.is_signed) for cam in cams]
    peak = layout.shared if look.scale == "figure" else find_peak(cams, look.is_signed)
    return [peak] * len(cams)


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
        fig = Figure(figsize=(layout.width, layout.height))
        # The units of the axes are the pixels of the image.
        ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        ax.set_axis_off()
        ax.imshow(image, extent=(0, width, height, 0), interpolation="none", aspect="auto")
        for number, (index, found) in enumerate(zip(indices, numbers, strict=True)):
            place = layout.place(number, len(indices))
            _write_words(store, int(index), found, layout, place, ax)
        n_down = layout.count_down(len(indices))
        for number in range(0, len(indices), n_down):
            _write_heads(layout, *layout.place(number, len(indices)), ax)
        _plot_key(fig, layout, footer, find_words(store.record))
        return fig


def _write_words(
    store: Store,
    index: int,
    numbers: _Numbers,
    layout: Layout,
    place: tuple[int, int],
    ax: Axes,
) -> None:
    """Write the identifier, the peak of the maps, probabilities and totals below a galaxy."""
    left, bottom = place[0], place[1] + layout.side
    size, unit = MIN_FONT_SIZE * layout.scale, layout.scale * DPI
    style: dict[str, Any] = {"fontsize": size, "va": "top", "parse_math": False}
    for number, words in enumerate(_list_facts(store, index, layout, size)):
        down = bottom + (0.02 + number * LINE) * unit
        ax.text(left, down, spell_missing(words), **style)
    line = bottom + (0.02 + len(layout.lines) * LINE) * unit
    if layout.look.scale == "row":
        peak, sign = max(numbers.peaks), "±" if layout.look.is_signed else ""
        ax.text(left, line, f"{sign}{format_number(peak)}" if peak > 0 else "0", **style)
    for number, c in enumerate(layout.classes):
        weight = "bold" if c == store.predicted[index] else "normal"
        words = f"p {format_probability(store.probs[index, c])}\n"
        words += format_total(float(numbers.totals[number]))
        if layout.look.scale == "panel":
            end = name_end(numbers.peaks[number], layout.look.is_signed)
            is_broken = layout.count_ends(layout.side / DPI) > 1
            words += "\n" + (end.replace(" ×", "\n×") if is_broken else end)
        start = left + (number + 1) * layout.side
        ax.text(start, line, words, weight=weight, linespacing=1.1, **style)


def _list_facts(store: Store, index: int, layout: Layout, size: float) -> list[str]:
    """Return identifier, redshift and true class of a galaxy, in lines."""
    redshift, label = store.redshift[index], int(store.label[index])
    facts = [
        str(store.objids(index)),
        f"z = {redshift:.3f}" if np.isfinite(redshift) else "",
        f"true: {name_classes(store)[label]}" if label >= 0 else "",
    ]
    room, lines = layout.block - MARGIN, []
    for line in layout.lines:
        words = ", ".join(facts[number] for number in line if facts[number])
        # To measure text takes time, and most is known to fit.
        if sum(layout.facts[number] for number in line) > room:
            words = fit_words(words, room, size, n_lines=1)[0]
        lines.append(words)
    return lines


def _write_heads(layout: Layout, left: int, top: int, ax: Axes) -> None:
    """Write the headings of the panels above a column of galaxies."""
    for panel, (words, size) in enumerate(layout.headings):
        ax.text(
            left + (panel + 0.5) * layout.side,
            top - 0.03 * DPI,
            words,
            fontsize=size,
            ha="center",
            va="bottom",
            multialignment="center",
            parse_math=False,
        )


def _plot_key(fig: Figure, layout: Layout, footer: str, method: MethodWords) -> None:
    """Draw the colour bar from zero, or the negative of its end, to its end, and the page."""
    look, height = layout.look, layout.height
    length = min(0.2, 1.2 / layout.width)
    bar = fig.add_axes((0.02, 0.21 * layout.scale / height, length, 0.08 / height))
    low = -1.0 if look.is_signed else 0.0
    ramp = np.linspace(low, 1.0, 256)
    alpha = np.minimum(np.abs(ramp) / FADE, 1.0)[:, None]
    colors = alpha * tabulate_colors(look.cmap, is_signed=look.is_signed)
    if look.overlay == "contour":
        colors = colors[:1] * 0
    bar.imshow(
        colors.astype(np.uint8)[None],
        extent=(low, 1, 0, 1),
        aspect="auto",
        interpolation="nearest",
    )
    if look.overlay == "contour":
        found = tabulate_colors(look.cmap, is_signed=look.is_signed) / 255
        for level in list_levels((low, 1.0)):
            color = found[int(255 * (level - low) / (1 - low))]
            bar.axvline(level, color=color, linewidth=1.2, linestyle="--" if level < 0 else "-")
    end = "peak"
    if layout.shared > 0:
        end = format_number(layout.shared)
    bar.set_yticks([])
    words = ["0", f"{end} [{method.unit}]"]
    ticks = [0.0, 1.0]
    if look.is_signed:
        ticks, words = [-1.0, *ticks], [f"−{end}", *words]
    bar.set_xticks(ticks, words, fontsize=MIN_FONT_SIZE * layout.scale)
    bar.set_xlim(low, 1)
    bar.tick_params(length=1.5, pad=1.5)
    fig.text(
        0.5,
        0.08 * layout.scale / height,
        footer,
        ha="center",
        fontsize=7 * layout.scale,
        parse_math=False,
    )


def _tabulate(store: Store, indices: NDArray[np.intp], n_page: int) -> dict[str, Column]:
    page = 1 + np.arange(len(indices)) // n_page
    return {"page": Column(page, "page, from 1")} | tabulate_galaxies(store, indices)


def _describe_colors(layout: Layout) -> str:
    """Say how the maps are drawn, and on which scale."""
    look = layout.look
    signs = "Negative values are shown, too" if look.is_signed else "Only positive values are shown"
    run = "symmetric about zero, up to" if look.is_signed else "from zero to"
    scale = {
        "row": f"on one linear colour scale for each galaxy, {run} its peak",
        "panel": f"each map on a linear colour scale of its own, {run} its peak",
        "figure": f"on one linear colour scale for all galaxies, {run} the peak of all, which the "
        "colour bar gives",
    }[look.scale]
    how = {
        "opaque": "; below a tenth of the peak, the cutout shows through",
        "blend": "; the cutout shines through all of it",
        "side": "; no cutout lies behind it",
        "contour": "; lines stand at 0.25, 0.5 and 0.75 of the peak"
        + (", dashed below zero" if look.is_signed else ""),
    }[look.overlay]
    apart = " Two panels cannot be compared by brightness." if look.scale == "panel" else ""
    return f"{signs}, {scale}{how}.{apart}"


def _describe(
    store: Store, selection: Selection, n_pages: int, layout: Layout, markup: Markup
) -> str:
    indices = np.asarray(selection.indices, np.intp)
    n_redshift = int(np.isfinite(store.redshift[indices]).sum())
    label, predicted = store.label[indices].astype(np.intp), store.predicted[indices]
    parts = ["the identifier"]
    if n_redshift:
        known = "" if n_redshift == len(indices) else " where it is known"
        parts.append(f"the redshift{known}")
    if (label >= 0).any():
        known = "" if (label >= 0).all() else " where it is known"
        parts.append(f"the true class{known}")
    shape = store.cutouts(int(indices[0])).shape
    p, sigma, method = markup.math("p"), markup.sigma, find_words(store.record)
    if layout.look.scale == "row":
        parts.append(f"the peak {method.units}")
    of_maps = f"the sum of the map over its pixels, negative ones included, {method.units}"
    own = ", and where its colour scale ends" if layout.look.scale == "panel" else ""
    is_other = (label >= 0) & (label != predicted) & np.isin(label, layout.classes)
    frames = mark_frames(
        bool(is_other.any()),
        is_said=bool((label >= 0).any()),
        are_all=bool(np.isin(predicted, layout.classes).all()),
    )
    return join_lines(
        f"Atlas of {describe_sample(store, selection, markup)}, on {count_noun(n_pages, 'page')}, "
        f"down the columns{_describe_order(selection)}.",
        describe_omitted(store, selection, "shown"),
        f"Each galaxy is shown by its cutout ({describe_size(store, shape, markup)}) and its "
        f"{method.name} maps{cite_method(store, markup)} for "
        f"{list_classes(store, markup, layout.classes)}, "
        f"which explain {describe_explained(store, markup)}, {PLACES[layout.look.overlay]}. "
        f"{_describe_colors(layout)} {describe_limits(store, markup)}",
        f"The labels give {', '.join(parts)} and, for each class shown, "
        f"the probability {p}, which is the softmax of the network's output, and {sigma}, "
        f"{of_maps}{own}. {frames[0].upper()}{frames[1:]}. The brightness of a map is not {p}.",
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
