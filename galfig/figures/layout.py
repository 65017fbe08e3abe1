"""The layout of rows of panels: where those of each galaxy stand on a page, and on how many."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.config import DEFAULT_STYLE, StyleSettings
from galfig.errors import FigureError
from galfig.figures.rows import (
    COLORBAR_GAP,
    COLORBAR_WIDTH,
    FOOTER,
    GAP,
    LINE,
    MIN_PANEL,
    SMALLEST_PANEL,
    Look,
    Row,
    add_axes,
    check_panels,
    choose_size,
    find_peak,
    find_room,
    fit_on_cutout,
    fit_panel,
    measure_bar,
    measure_colorbar,
    plot_row,
)
from galfig.figures.style import (
    find_figure,
    find_page,
    fit_words,
    measure_words,
    paper_style,
    scale_font,
    spell_missing,
)

logger = logging.getLogger(__name__)

MARGIN = 0.02
# Galaxies whose maps stand below their cutout: gap between them, height of the colour bar, and side
# below which panels are hard to read and above which they waste a page [inch].
BLOCK_GAP, BAR, READABLE, LARGEST = 0.12, 0.06, 1.0, 1.6
# Smallest side of panels on a page of the style, such as a slide, which is seen larger [inch].
SMALLEST_ON_SLIDE = 0.75
# Side of panels beside each other where rows go on over several pages [inch].
COMFORTABLE = 1.25
# Largest number of lines of words above the panels of a galaxy, and what stands between the words.
MAX_LINES, DOT = 4, "  ·  "
# More than this above the height of a page is too tall for it [inch].
TOLERANCE = 0.1


@dataclass(frozen=True)
class Arrangement:
    """Where the panels of galaxies stand.

    A block holds the panels of one row: beside each other with a colour bar at their end or, in a
    grid, below each other with the colour bar at the bottom.

    Attributes
    ----------
    n : int
        Number of blocks on all pages.
    n_panels : int
        Number of panels in a block: the cutout and its maps.
    width, page : float
        Width, and height of the page that it should fit [inch].
    side : float
        Side of a panel [inch].
    n_abreast, n_down : int
        Number of blocks beside each other, and below each other.
    is_grid : bool
        Whether panels stand below each other.
    n_lines : int
        Number of lines of words above each block; 0 where the words stand on the cutouts.
    title : str
        Title of the figure, in lines.
    title_size : float
        Its size [pt].
    is_fixed : bool
        Whether the style has a page that the figure fills, such as a slide.
    spread : float
        Width that words above the blocks of a grid have beyond the panels [inch].
    beside : float
        Width of words to the left of the panels of a row [inch]; 0 where they stand elsewhere.
    has_grid : bool
        Whether a grid, which the style did not ask for, would fit a page.
    """

    n: int
    n_panels: int
    width: float
    page: float
    side: float
    n_abreast: int
    n_down: int
    is_grid: bool = False
    n_lines: int = 0
    title: str = ""
    title_size: float = 9.0
    is_fixed: bool = False
    spread: float = 0.0
    beside: float = 0.0
    has_grid: bool = False

    @property
    def n_page(self) -> int:
        """Number of blocks on a page."""
        return self.n_abreast * self.n_down

    @property
    def n_pages(self) -> int:
        """Number of pages."""
        return -(-self.n // self.n_page)

    @property
    def block_width(self) -> float:
        """Width from one block to the next [inch]."""
        if self.is_grid:
            return self.side + self.spread + BLOCK_GAP
        return self.width / self.n_abreast

    @property
    def strip(self) -> float:
        """Height of the words above a block [inch]."""
        size = choose_size(self.side)
        return self.n_lines * LINE * size / 72 + 0.03 if self.n_lines else 0.0

    @property
    def strip_width(self) -> float:
        """Width of the words above a block [inch]."""
        if self.is_grid:
            return self.side + self.spread + BLOCK_GAP / 4
        return min(self.block_width - 0.06, self.breadth)

    @property
    def breadth(self) -> float:
        """Width of panels beside each other with their colour bar [inch]."""
        return self.n_panels * (self.side + GAP) + measure_colorbar()

    @property
    def block_height(self) -> float:
        """Height of a block with the words above it [inch]."""
        if self.is_grid:
            return self.strip + self.n_panels * (self.side + GAP) + BAR + measure_ends()
        return self.strip + self.side

    @property
    def gap(self) -> float:
        """Gap between a block and the one below it [inch]."""
        # Words would otherwise stand between two galaxies and belong to either.
        return 0.08 if self.is_grid else GAP + (0.05 if self.n_lines else 0.0)

    @property
    def head(self) -> float:
        """Height of the title [inch]."""
        n_lines = 1 + self.title.count("\n")
        return n_lines * LINE * self.title_size / 72 + 0.08 if self.title else 0.0

    @property
    def content(self) -> float:
        """Height of what is drawn on a page [inch]."""
        rows = self.n_down * (self.block_height + self.gap) - self.gap
        return self.head + MARGIN + rows + (FOOTER if self.n_pages > 1 else MARGIN)

    @property
    def height(self) -> float:
        """Height of a page [inch]."""
        return max(self.content, self.page) if self.is_fixed else self.content

    @property
    def is_tall(self) -> bool:
        """Whether it is taller than a page."""
        return self.page > 0 and self.content > self.page + TOLERANCE

    @property
    def noun(self) -> str:
        """What the panels of a galaxy make, in captions."""
        return "column" if self.is_grid else "row"

    @property
    def each(self) -> str:
        """Subject of a sentence on the panels of a galaxy."""
        if self.is_grid:
            return "Each column of panels"
        if self.n_abreast == 1:
            return "Each row"
        return f"Each row of panels, {self.n_abreast} of which stand side by side,"

    @property
    def order(self) -> str:
        """Order in which the galaxies are named, at the beginning of a sentence."""
        if self.is_grid:
            words = "From left to right" + (", line by line" if self.n > self.n_abreast else "")
        elif self.n_abreast > 1:
            words = "Down the columns, from the left"
        else:
            words = "From top to bottom"
        return f"{words}, page by page" if self.n_pages > 1 else words

    def place(self, number: int) -> tuple[float, float]:
        """Return left and top [inch], from the left and the top of a page, of one of its blocks."""
        if self.is_grid:
            down, column = divmod(number, self.n_abreast)
            extent = self.n_abreast * self.block_width - BLOCK_GAP
            left = (self.width - extent + self.spread) / 2 + column * self.block_width
        else:
            column, down = divmod(number, self.n_down)
            margin = max(MARGIN, (self.block_width - self.breadth - self.beside) / 2)
            left = column * self.block_width + margin + self.beside
        top = (self.height - self.content) / 2 + self.head + MARGIN
        return left, top + down * (self.block_height + self.gap)


def measure_ends() -> float:
    """Return the height [inch] of the numbers below a colour bar, and of the unit below them."""
    return 2 * LINE * scale_font(6.5) / 72 + 0.03


def arrange(
    words: Sequence[Sequence[str]],
    n_panels: int,
    width: float | None = None,
    *,
    style: StyleSettings = DEFAULT_STYLE,
    group: int = 1,
) -> Arrangement:
    """Choose where the panels of galaxies stand.

    Parameters
    ----------
    words : sequence of sequence of str
        Heading and facts of each galaxy, (n,).
    n_panels : int
        Number of panels of each: the cutout and its maps.
    width : float, optional
        Width of the figure [inch]; default 7.1, or that of the style.
    style : StyleSettings, optional
        The layout, the number of galaxies abreast, the title, and whether there may be several
        pages.
    group : int, default 1
        Number of blocks that stay together, such as those of one galaxy in two stores.

    Returns
    -------
    Arrangement
        The one of the largest panels that fits a page. If there is none, one of several pages where
        the style allows them; otherwise a grid that fits a page, where the style names neither a
        layout nor a number of columns, and else one that is taller than a page.

    Raises
    ------
    FigureError
        If the panels would be too small for readable text on them.
    """
    width, page = find_room(width)
    is_grid, is_fixed = style.layout == "grid", find_page() is not None
    title, size = fit_words(style.title or "", width - 0.2, scale_font(9), "bold", 3)
    base = Arrangement(
        *(len(words), n_panels, width, page, 0.0, group, group, is_grid),
        title=title,
        title_size=size,
        is_fixed=is_fixed,
    )
    least = SMALLEST_ON_SLIDE if is_fixed else SMALLEST_PANEL
    readable = _list_readable(base, style.columns, group, least)
    found_ones = _fit_each(base, words, readable, group, least)
    fitting = [one for one in found_ones if not one.is_tall]
    if fitting:
        return _choose(fitting, words)
    if style.pages:
        return _go_on(base, words, readable, group)
    grid = None if is_grid else _find_grid(base, words, style.columns, group, least)
    if grid is not None and style.columns is None and "layout" not in style.model_fields_set:
        return grid
    least = MIN_PANEL if not is_fixed and not is_grid else least
    last = min(found_ones, key=lambda one: one.content)
    last = _fit(base, words, last.n_abreast, last.n_down, 1, least)
    return dataclasses.replace(last, has_grid=grid is not None)


def _fit_each(
    base: Arrangement,
    words: Sequence[Sequence[str]],
    readable: Sequence[int],
    group: int,
    least: float,
) -> list[Arrangement]:
    """Fit each number of galaxies abreast to a page; on a slide, wherever words have room."""
    found_ones = [_fit(base, words, k, _count_down(base, k, group), group, least) for k in readable]
    if not base.is_fixed or not all(one.is_tall for one in found_ones):
        return found_ones
    # Of a slide, nothing is below. Words stand beside the panels or, where they have no room there,
    # on the cutouts, broken.
    inside = [
        _fit(base, words, k, _count_down(base, k, group), group, least, are_inside=True)
        for k in readable
    ]
    if base.is_grid:
        return inside
    beside = [_move_beside(one, words, least) for one in inside if not one.is_tall]
    return [one for one in beside if one is not None] or inside


def _move_beside(
    found: Arrangement, words: Sequence[Sequence[str]], least: float
) -> Arrangement | None:
    """Move words from the cutouts to their left, on smaller panels if need be; None for no room."""
    size, longest = choose_size(found.side), max((len(one) for one in words), default=0)
    needed = max((measure_words(one, size) for own in words for one in own), default=0.0) + 0.1
    spare = found.block_width - 2 * MARGIN - needed - measure_colorbar()
    side = min(found.side, spare / found.n_panels - GAP)
    if side < max(least, longest * LINE * size / 72):
        return None
    return dataclasses.replace(found, side=side, beside=needed)


def _find_grid(
    base: Arrangement,
    words: Sequence[Sequence[str]],
    columns: int | None,
    group: int,
    least: float,
) -> Arrangement | None:
    """Arrange galaxies in a grid that fits a page; None if there is none."""
    base = dataclasses.replace(base, is_grid=True)
    try:
        readable = _list_readable(base, columns, group, least)
    except FigureError:
        return None
    fitting = [one for one in _fit_each(base, words, readable, group, least) if not one.is_tall]
    return _choose(fitting, words) if fitting else None


def _list_readable(
    base: Arrangement, columns: int | None, group: int, least: float
) -> Sequence[int]:
    """Return how many galaxies may stand abreast, on panels of a least side [inch]."""
    if not base.is_grid:
        try:
            check_panels(base.n_panels - 1, base.width)
        except FigureError as exc:
            raise FigureError(f'{exc}, or in a grid (`layout="grid"`)') from exc
    n_units = -(-base.n // group)
    readable = [k for k in range(1, n_units + 1) if _measure_width(base, k, group) >= least]
    wanted = min(columns or 1, n_units)
    if wanted not in readable:
        what = "`width`" if columns is None else f"`columns` {columns}"
        room = f"has room for {max(readable)} abreast" if readable else "is too small"
        raise FigureError(
            f"{what}: panels of {max(0.0, _measure_width(base, wanted, group)):.2f} inches, "
            f"expected at least {least}; a width of {base.width:g} inches {room}"
        )
    return readable if columns is None else [wanted]


def _measure_width(base: Arrangement, n_abreast: int, group: int) -> float:
    """Return the largest side [inch] of the panels of so many galaxies beside each other."""
    if base.is_grid:
        across = n_abreast * group
        return min(LARGEST, (base.width - 2 * MARGIN) / across - BLOCK_GAP)
    return fit_panel(base.n_panels, base.width / n_abreast)


def _count_down(base: Arrangement, n_abreast: int, group: int) -> int:
    """Return the number of blocks below each other, of so many galaxies beside each other."""
    lines = -(-base.n // (n_abreast * group))
    return lines if base.is_grid else lines * group


def _fit(
    base: Arrangement,
    words: Sequence[Sequence[str]],
    n_abreast: int,
    n_down: int,
    group: int,
    least: float = SMALLEST_PANEL,
    are_inside: bool = False,
) -> Arrangement:
    """Give panels the largest side at which a number of blocks fits a page, but not below one.

    Words that do not fit on the cutouts stand above the blocks, unless they are to be inside.
    """
    across = n_abreast * group if base.is_grid else n_abreast
    by_width = _measure_width(base, n_abreast, group)
    found = dataclasses.replace(base, n_abreast=across, n_down=n_down, side=by_width)
    # Smaller panels have less room for words, which then take more lines.
    for _ in range(4):
        spare = found.page - (found.content - n_down * found.side * _count_sides(found))
        side = min(by_width, max(spare / (n_down * _count_sides(found)), least))
        found = dataclasses.replace(found, side=side, spread=0.0)
        found = dataclasses.replace(found, spread=_measure_spread(found, words))
        n_lines = 0 if are_inside else max(found.n_lines, _count_lines(found, words))
        if n_lines == found.n_lines:
            return found
        found = dataclasses.replace(found, n_lines=n_lines)
    return found


def _measure_spread(found: Arrangement, words: Sequence[Sequence[str]]) -> float:
    """Return how much wider than panels the words above them may be on a page [inch]."""
    size = choose_size(found.side)
    if not found.is_grid or all(fit_on_cutout(one, found.side, size) is not None for one in words):
        return 0.0
    needed = max((measure_words(one, size) for own in words for one in own), default=0.0)
    spare = (found.width - 2 * MARGIN) / found.n_abreast - found.side - BLOCK_GAP
    return max(0.0, min(needed - found.side, spare))


def _count_sides(found: Arrangement) -> int:
    """Return the number of panels below each other in a block."""
    return found.n_panels if found.is_grid else 1


def _count_lines(found: Arrangement, words: Sequence[Sequence[str]]) -> int:
    """Return the number of lines of words above blocks; 0 if all words fit on the cutouts."""
    size = choose_size(found.side)
    if all(fit_on_cutout(one, found.side, size) is not None for one in words):
        return 0
    return max(1 + fit_above(one, found)[0].count("\n") for one in words)


def fit_above(words: Sequence[str], found: Arrangement) -> tuple[str, float]:
    """Fit heading and facts of a galaxy into lines above its panels.

    Parameters
    ----------
    words : sequence of str
        Heading and facts.
    found : Arrangement
        The arrangement, which says how wide the lines may be.

    Returns
    -------
    words : str
        The same in lines.
    size : float
        Font size [pt].
    """
    size, room = choose_size(found.side), found.strip_width
    if found.is_grid:
        fitted = [fit_words(one, room, size) for one in words]
        return "\n".join(one for one, _ in fitted), min((size for _, size in fitted), default=size)
    lines, size = fit_words(DOT.join(words), room, size, n_lines=MAX_LINES)
    return "\n".join(line.strip(" ·") for line in lines.split("\n")), size


def _fit_all_above(words: Sequence[Sequence[str]], found: Arrangement) -> tuple[list[str], float]:
    """Fit the words of all galaxies into lines above their panels, in one size."""
    fitted = [fit_above(one, found) for one in words]
    return [one for one, _ in fitted], min(size for _, size in fitted)


def _choose(fitting: Sequence[Arrangement], words: Sequence[Sequence[str]]) -> Arrangement:
    """Choose the best of the arrangements that fit a page, the narrowest first."""
    first = fitting[0]
    if not first.is_grid:
        # One column of rows is read most easily.
        is_good = first.n_abreast == 1 and (first.side >= MIN_PANEL or first.is_fixed)
        return first if is_good else max(fitting, key=lambda one: one.side)
    whole = [one for one in fitting if _is_whole(one, words)] or list(fitting)
    large = [one for one in whole if one.side >= READABLE]
    if not large:
        return max(whole, key=lambda one: one.side)
    return min(large, key=lambda one: (one.n_down, one.n_abreast))


def _is_whole(found: Arrangement, words: Sequence[Sequence[str]]) -> bool:
    """Tell whether the heading of each galaxy has room in one line."""
    room = found.strip_width if found.n_lines else found.side
    return all(measure_words(one[0], 6.0) <= room for one in words if one)


def _go_on(
    base: Arrangement, words: Sequence[Sequence[str]], readable: Sequence[int], group: int
) -> Arrangement:
    """Arrange galaxies on several pages, with panels that are read easily."""
    wanted = SMALLEST_PANEL if base.is_fixed else READABLE if base.is_grid else COMFORTABLE
    large = [k for k in readable if _measure_width(base, k, group) >= wanted] or [readable[0]]
    n_abreast = large[-1] if base.is_grid else large[0]
    step = 1 if base.is_grid else group
    best = _fit(base, words, n_abreast, step, group)
    least = min(wanted, best.side)
    for n_down in range(2 * step, base.n + step, step):
        found = _fit(base, words, n_abreast, n_down, group)
        if found.side < least or found.is_tall:
            break
        best = found
    return best


@dataclass(frozen=True)
class RowPages:
    """The pages of rows of panels, drawn anew on each iteration; or one on axes of the caller.

    Attributes
    ----------
    rows : sequence of Row
        All rows.
    arrangement : Arrangement
        Where they stand.
    look : Look
        How the maps look.
    own : Figure or None
        A figure of the caller, on whose axes they are drawn already.
    """

    rows: Sequence[Row]
    arrangement: Arrangement
    look: Look
    own: Figure | None = None

    def __len__(self) -> int:
        return self.arrangement.n_pages

    @property
    def figures(self) -> Iterable[Figure]:
        """The one page, already drawn, or the many that are drawn when they are needed."""
        return tuple(self) if len(self) == 1 else self

    def __iter__(self) -> Iterator[Figure]:
        if self.own is not None:
            yield self.own
            return
        n_page = self.arrangement.n_page
        above: list[str] = []
        size = 0.0
        if self.arrangement.n_lines:
            with paper_style():
                above, size = _fit_all_above([row.words for row in self.rows], self.arrangement)
        shared = max(find_peak(row.cams, self.look.is_signed) for row in self.rows)
        for number in range(len(self)):
            part = slice(number * n_page, (number + 1) * n_page)
            with paper_style():
                fig = Figure(figsize=(self.arrangement.width, self.arrangement.height))
                for place, row in enumerate(self.rows[part]):
                    _draw_block(fig, row, place, self.arrangement, self.look, shared)
                    if self.arrangement.beside:
                        _write_beside(fig, row.words, place, self.arrangement)
                for place, words in enumerate(above[part]):
                    _write_above(fig, words, size, place, self.arrangement)
                self._write_ends(fig, number + 1)
            yield fig

    def _write_ends(self, fig: Figure, number: int) -> None:
        """Write the title of a page and its number."""
        found = self.arrangement
        style: dict[str, Any] = {"ha": "center", "parse_math": False}
        if found.title:
            top = 1 - ((found.height - found.content) / 2 + 0.04) / found.height
            style |= {"va": "top", "multialignment": "center"}
            size = found.title_size
            fig.text(0.5, top, found.title, fontsize=size, weight="bold", **style)
        if len(self) > 1:
            down = ((found.height - found.content) / 2 + 0.05) / found.height
            words = f"Page {number} of {len(self)}"
            style |= {"va": "bottom"}
            fig.text(0.5, down, words, fontsize=scale_font(7), **style)


def _draw_block(
    fig: Figure, row: Row, place: int, found: Arrangement, look: Look, shared: float
) -> None:
    """Draw the panels of one row, and their colour bar."""
    left, top = found.place(place)
    side, step = found.side, found.side + GAP
    bottom = found.height - top - found.strip - side
    if found.is_grid:
        axes = [add_axes(fig, left, bottom - k * step, side, side) for k in range(found.n_panels)]
        bar = add_axes(fig, left, bottom - (found.n_panels - 1) * step - GAP - BAR, side, BAR)
    else:
        axes = [add_axes(fig, left + k * step, bottom, side, side) for k in range(found.n_panels)]
        length = measure_bar(side, is_signed=look.is_signed)
        start = left + found.n_panels * step + COLORBAR_GAP
        bar = add_axes(fig, start, bottom + (side - length) / 2, COLORBAR_WIDTH, length)
    plot_row(
        row,
        axes=axes,
        bar=bar,
        side=side,
        look=look,
        shared=shared,
        has_words=not (found.n_lines or found.beside),
        is_level=found.is_grid,
    )


def _write_above(fig: Figure, words: str, size: float, place: int, found: Arrangement) -> None:
    """Write heading and facts of a galaxy above its panels."""
    left, top = found.place(place)
    left -= found.spread / 2
    x, y = left / found.width, 1 - (top + found.strip - 0.03) / found.height
    fig.text(x, y, words, fontsize=size, ha="left", va="bottom", parse_math=False)


def _write_beside(fig: Figure, words: Sequence[str], place: int, found: Arrangement) -> None:
    """Write heading and facts of a galaxy to the left of its panels."""
    left, top = found.place(place)
    x, y = (left - found.beside) / found.width, 1 - top / found.height
    size, shown = choose_size(found.side), "\n".join(spell_missing(one) for one in words)
    style: dict[str, Any] = {"fontsize": size, "linespacing": LINE, "parse_math": False}
    fig.text(x, y, shown, ha="left", va="top", **style)


def make_pages(
    rows: Sequence[Row],
    width: float | None = None,
    *,
    cmap: str | None = None,
    is_signed: bool = False,
    style: StyleSettings = DEFAULT_STYLE,
    group: int = 1,
    axes: NDArray[np.object_] | None = None,
) -> RowPages:
    """Arrange rows of panels on a page, or on several where the style allows it.

    Parameters and exceptions are those of `make_rows` and, if there are ``axes`` of the caller on
    which the rows are drawn, of `plot_rows`.

    Returns
    -------
    RowPages
        The pages, which are drawn on iteration.
    """
    look = Look(cmap, is_signed or style.negative, style.overlay, style.scale)
    if axes is not None:
        plot_rows(rows, axes, cmap=cmap, is_signed=is_signed, style=style)
        # Whatever the caller makes of it, it is called one column of rows, or one line of a grid.
        is_grid, n = style.layout == "grid", len(rows)
        across, down = (n, 1) if is_grid else (1, n)
        found = Arrangement(n, 1 + len(rows[0].labels), 0.0, 0.0, 0.0, across, down, is_grid)
        return RowPages(rows, found, look, find_figure(axes.item(0)))
    with paper_style():
        found = arrange(
            [row.words for row in rows],
            *(1 + len(rows[0].labels), width),
            style=style,
            group=group,
        )
    return RowPages(rows, found, look)


def make_rows(
    rows: Sequence[Row],
    width: float | None = None,
    *,
    cmap: str | None = None,
    is_signed: bool = False,
    style: StyleSettings = DEFAULT_STYLE,
    group: int = 1,
) -> Figure:
    """Draw rows of panels.

    The maps of a row share one linear colour scale, from zero to the largest value among them. The
    colour bar at the end of the row gives that value. Negative values are set to zero (ReLU),
    unless maps are signed: then the scale runs to the largest absolute value on both sides of zero.
    Where each panel has a scale of its own, each says how far it runs.

    Parameters
    ----------
    rows : sequence of Row
        The rows from top to bottom, all with the same number of maps.
    width : float, optional
        Width of the figure [inch]; default 7.1.
    cmap : str, optional
        Colour map of the maps; it should be dark at zero. Default "inferno", or one of blue and
        orange where maps are signed.
    is_signed : bool, default False
        Whether negative values are drawn in any case, as of evidence.
    style : StyleSettings, optional
        How a map lies over its cutout, which maps share a colour scale, whether negative values are
        drawn, too, and where the panels stand; see `arrange`.
    group : int, default 1
        Number of rows that stay together.

    Returns
    -------
    Figure
        The figure; of several pages, the first.

    Raises
    ------
    FigureError
        If the width is too small for readable text on the panels.
    """
    pages = make_pages(rows, width, cmap=cmap, is_signed=is_signed, style=style, group=group)
    return next(iter(pages))


def plot_rows(
    rows: Sequence[Row],
    axes: NDArray[np.object_],
    *,
    cmap: str | None = None,
    is_signed: bool = False,
    style: StyleSettings = DEFAULT_STYLE,
) -> None:
    """Draw rows of panels on axes of the caller.

    Parameters
    ----------
    rows : sequence of Row
        The rows, (n,).
    axes : (n, 2 + M) ndarray of Axes
        For each row those of the cutout, of the M maps and of the colour bar; in a grid,
        (2 + M, n), with the colour bars at the bottom.
    cmap, is_signed, style
        As of `make_rows`; where the panels stand is up to the caller.

    Raises
    ------
    FigureError
        If the axes are of another number.
    """
    is_grid, n_panels = style.layout == "grid", 1 + len(rows[0].labels)
    blocks = np.atleast_2d(axes.T if is_grid else axes)
    if blocks.shape != (len(rows), n_panels + 1):
        expected = (n_panels + 1, len(rows)) if is_grid else (len(rows), n_panels + 1)
        raise FigureError(
            f"`ax`: axes in an array of {axes.shape}, expected {expected}: for each galaxy those "
            f"of the cutout, of {n_panels - 1} maps and of the colour bar"
        )
    look = Look(cmap, is_signed or style.negative, style.overlay, style.scale)
    shared = max(find_peak(row.cams, look.is_signed) for row in rows)
    for row, (*own, bar) in zip(rows, blocks, strict=True):
        box = own[0].bbox
        side = min(box.width, box.height) / own[0].figure.dpi
        plot_row(row, axes=own, bar=bar, side=side, look=look, shared=shared, is_level=is_grid)


def settle(style: StyleSettings, found: Arrangement) -> StyleSettings:
    """Return a style with the layout that was chosen, which captions tell of."""
    layout = "grid" if found.is_grid else "rows"
    return style if style.layout == layout else style.model_copy(update={"layout": layout})


def warn_if_tall(name: str, found: Arrangement) -> None:
    """Warn of a figure that no page holds."""
    if found.is_tall:
        grid = ', a grid (`layout="grid"`)' if found.has_grid else ""
        logger.warning(
            "%s: %.1f inches tall, taller than a page; draw fewer galaxies (`n`)%s or several "
            "pages (`pages=True`)",
            name,
            found.content,
            grid,
        )
