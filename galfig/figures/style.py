"""The style of all figures: the style sheet, sizes, axes, and text that comes from data."""

import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.legend import Legend
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Text
from matplotlib.textpath import TextPath

from galfig.config import DEFAULT_STYLE, StyleSettings
from galfig.figures.latex import spell_character
from galfig.figures.sheets import FONT, FONT_SIZE, read_sheets

# Whether a style is applied, so that nothing within applies another; and its page, if it has one.
_applied = ContextVar("applied", default=False)
_page: ContextVar[tuple[float, float] | None] = ContextVar("page", default=None)
# Width of a column and of the text (two columns) in AASTeX [inch].
COLUMN_WIDTH, TEXT_WIDTH = 3.39, 7.1
# A narrower figure has no room for the labels of its axes, and no page holds a wider one [inch].
MIN_WIDTH, MAX_WIDTH = 1.5, 20.0
# Colours of Okabe & Ito (2008), which colour-blind readers can tell apart. Line styles distinguish
# the curves in greyscale print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
# More curves than this cannot be told apart.
MAX_CURVES = 2 * len(COLORS)
# Text is at most so much wider on pixels, on which its letters are placed, than its curves are.
SPREAD = 1.06
# Smaller text is hard to read in print [pt].
MIN_FONT_SIZE = 6.0
# A name may take so many lines.
MAX_LINES = 4
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@contextmanager
def paper_style(settings: StyleSettings | None = None) -> Iterator[None]:
    """Apply a style sheet on top of matplotlib's defaults, for drawing and for saving.

    The user's ``matplotlibrc`` is ignored, so that a figure looks the same everywhere.

    Parameters
    ----------
    settings : StyleSettings, optional
        The sheet, and the font on top of it. By default, those of a ``with`` block around this one,
        or else "journal".

    Raises
    ------
    FigureError
        If the sheet cannot be read or would do more than change how a figure looks, or the font is
        not installed.
    """
    if settings is None and _applied.get():
        yield
        return
    sheets = read_sheets(settings or DEFAULT_STYLE)
    rc: Any = {**mpl.rcParamsDefault, **sheets}
    # Nothing is shown on a screen, and to choose a backend for that would import pyplot.
    del rc["backend"]
    size = sheets.get("figure.figsize")
    tokens = _applied.set(True), _page.set(None if size is None else (size[0], size[1]))
    try:
        with mpl.rc_context(rc=rc):
            yield
    finally:
        _applied.reset(tokens[0])
        _page.reset(tokens[1])


def find_page() -> tuple[float, float] | None:
    """Return the size [inch] that the style has every figure fill, such as that of a slide."""
    return _page.get()


def scale_font(size: float) -> float:
    """Return a size of text [pt] that is meant for the sheet "journal", for the style applied."""
    return size * float(mpl.rcParams["font.size"]) / FONT_SIZE if _applied.get() else size


def list_curve_colors() -> tuple[str, ...]:
    """Return the colours of curves: of the style applied, or `COLORS` on axes of the caller."""
    if not _applied.get():
        return COLORS
    return tuple(mpl.rcParams["axes.prop_cycle"].by_key().get("color", COLORS))


def find_ink(faintness: float = 0.0) -> tuple[float, float, float]:
    """Return the colour of text and lines, for what is not drawn over a cutout.

    Parameters
    ----------
    faintness : float, default 0
        From 0, the colour of text, to 1, that of the ground. On white it is the level of grey.

    Returns
    -------
    (float, float, float)
        Red, green and blue, from 0 to 1.
    """
    ink, ground = (to_rgb(mpl.rcParams[key]) for key in ("text.color", "axes.facecolor"))
    red, green, blue = (
        (1 - faintness) * one + faintness * other for one, other in zip(ink, ground, strict=True)
    )
    return red, green, blue


def find_ground() -> str:
    """Return the colour that text and lines are drawn on, outside of cutouts."""
    return str(mpl.rcParams["axes.facecolor"])


def chart_size(width: float | None, aspect: float) -> tuple[float, float]:
    """Return the size of a chart.

    Parameters
    ----------
    width : float or None
        Width [inch]; None for one column, or the page of the style.
    aspect : float
        Height divided by width, at the width of one column. Wider charts are flatter. A style with
        a page has its own.

    Returns
    -------
    (float, float)
        Width and height [inch].
    """
    inches = width or COLUMN_WIDTH
    height = aspect * (min(inches, COLUMN_WIDTH) + 0.4 * max(0.0, inches - COLUMN_WIDTH))
    return fill_page(width, (inches, height))


def fill_page(width: float | None, size: tuple[float, float]) -> tuple[float, float]:
    """Return the size of a figure [inch]: its own, or that of the page of the style.

    Parameters
    ----------
    width : float or None
        Width that the user asks for [inch]; the page then becomes as wide.
    size : (float, float)
        Its size where the style has no page.

    Returns
    -------
    (float, float)
    """
    page = find_page()
    if page is None:
        return size
    return page if width is None else (width, width * page[1] / page[0])


@contextmanager
def open_axes(ax: Axes | None, size: tuple[float, float]) -> Iterator[Axes]:
    """Provide axes to draw on: those of the caller, or those of a new figure.

    Parameters
    ----------
    ax : Axes or None
        Axes of the caller, which keep the caller's style; None for a new figure in galfig's style.
    size : (float, float)
        Width and height of a new figure [inch].

    Yields
    ------
    Axes
    """
    if ax is not None:
        yield ax
        return
    with paper_style():
        yield Figure(figsize=size, layout="constrained").subplots()


def find_figure(ax: Axes) -> Figure:
    """Return the top-level figure of axes, which may be in a subfigure."""
    figure = ax.figure
    return figure if isinstance(figure, Figure) else figure.figure


@contextmanager
def keep_layout(fig: Figure) -> Iterator[None]:
    """Restore the positions of the axes of a figure after it is drawn.

    A constrained layout starts from the positions that the last drawing left. Without this, a
    figure that was displayed before it was saved would have different bytes.
    """
    places = [
        (ax, ax.get_position(original=True).frozen(), ax.get_position().frozen()) for ax in fig.axes
    ]
    try:
        yield
    finally:
        for ax, original, active in places:
            ax.set_position(original, which="original")
            ax.set_position(active, which="active")
            # set_position removes the axes from the constrained layout.
            ax.set_in_layout(True)


def plot_outlined_text(
    x: float,
    y: float,
    words: str,
    *,
    ax: Axes,
    size: float,
    color: str = "white",
    outline: str = "black",
    **style: Any,
) -> Text:
    """Write text with an outline, in axes coordinates; by default white with a dark one.

    The outline is a second text below the first; see `_Letters`.

    Parameters
    ----------
    x, y : float
        Position, from 0 to 1.
    words : str
        Text; ``$...$`` is mathematics unless ``parse_math=False``.
    ax : Axes
        Axes to write on.
    size : float
        Font size [pt].
    color, outline : str
        Colours of the text and of its outline.
    **style
        Properties of the text, such as ``weight``.

    Returns
    -------
    Text
        The text above its outline.
    """
    style = {
        "fontsize": size,
        "transform": ax.transAxes,
        "ha": "center",
        "multialignment": "center",
        **style,
    }
    below = ax.text(x, y, words, color=outline, **style)
    below.set_path_effects([Stroke(linewidth=1.6, foreground=outline)])
    letters = _Letters(x, y, words, color=color, clip_on=False, **style)
    ax.add_artist(letters)
    return letters


class _Letters(Text):
    """Text over an outline, drawn from the same curves as the outline where it is pixels.

    matplotlib draws text with path effects as curves. In a PDF these could be neither searched nor
    copied. In pixels, it would set text without them letter by letter on whole pixels, so that the
    letters drift away from the curves of their outline.
    """

    def draw(self, renderer: RendererBase, *args: Any, **kwargs: Any) -> None:
        """Draw the text."""
        self.set_path_effects([Normal()] if isinstance(renderer, RendererAgg) else [])
        super().draw(renderer, *args, **kwargs)


def choose_curve_style(number: int) -> dict[str, Any]:
    """Return the colour and the line style of a curve, by its number from 0.

    The first `MAX_CURVES` curves differ in colour or in line style.
    """
    colors = list_curve_colors()
    shift = number // len(colors)
    return {
        "color": colors[number % len(colors)],
        "linestyle": LINE_STYLES[(number + shift) % len(LINE_STYLES)],
    }


def format_power(exponent: int) -> str:
    """Write a power of ten with Unicode superscripts, such as 10⁻³.

    Math mode would set the exponent at 0.7 of the font size, which is too small for print.
    """
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def plot_legend(handles: Sequence[Any], words: Sequence[str], *, ax: Axes, **style: Any) -> Legend:
    """Draw a legend whose labels come from data.

    matplotlib alone would omit labels that begin with an underscore, and parse ``$...$``.

    Parameters
    ----------
    handles : sequence of artists
        The artists.
    words : sequence of str
        Label of each artist.
    ax : Axes
        Axes to draw on.
    **style
        Arguments of `matplotlib.axes.Axes.legend`.

    Returns
    -------
    Legend
    """
    legend = ax.legend(handles, [str(number) for number in range(len(words))], **style)
    # The axes, less the samples of the lines.
    room = max(0.6, ax.bbox.width / ax.figure.dpi - 0.5)
    for text, label in zip(legend.get_texts(), words, strict=True):
        text.set_parse_math(False)
        text.set_text(wrap_words(spell_missing(label), room, float(text.get_fontsize())))
        # For `move_legend`, which breaks it into other lines.
        text.set_label(label)
    return legend


def wrap_words(words: str, width: float, size: float) -> str:
    """Break text into lines that fit a width [inch] at a font size [pt]."""
    # A character is about 0.6 of the font size wide.
    n_characters = max(1, int(72 * width / (0.6 * size)))
    # What no-break spaces hold together is broken at them only where no line has room for it.
    while any("\xa0" in part and len(part) > n_characters for part in words.split(" ")):
        words = words.replace("\xa0", " ", 1)
    if len(words) > n_characters:
        words = textwrap.fill(words, n_characters)
    return words.replace("\xa0", " ")


def spell_missing(words: str) -> str:
    """Replace each character that the font lacks by its code point, such as 'U+661F'.

    matplotlib would draw the same box for all of them, and warn about each.
    """
    known = _read_charmap(_list_families())
    return "".join(char if ord(char) in known else spell_character(char) for char in words)


def _list_families() -> tuple[str, ...]:
    """Return the font, and the one for characters that it lacks."""
    return tuple(mpl.rcParams["font.family"]) if _applied.get() else (FONT,)


@cache
def _read_charmap(families: Sequence[str]) -> frozenset[int]:
    """Return the code points that both weights can draw and that can be copied from a PDF."""
    known: set[int] = set()
    for family in families:
        weights = (FontProperties(family=family, weight=weight) for weight in ("normal", "bold"))
        normal, bold = (set(get_font(findfont(weight)).get_charmap()) for weight in weights)
        known |= normal & bold
    # matplotlib's PDF backend cannot encode code points beyond 16 bits as text.
    return frozenset(
        code for code in known if code < 1 << 16 and unicodedata.category(chr(code)) != "Cc"
    )


def escape_math(words: str) -> str:
    """Escape text that comes from data, so that matplotlib parses no mathematics in it."""
    return spell_missing(words).replace("$", r"\$")


def fit_font_size(words: str, width: float, size: float, weight: str = "normal") -> float:
    """Return the font size [pt] at which text fits a width [inch].

    The result is at most ``size`` and at least `MIN_FONT_SIZE`, even if the text is then too wide.
    """
    return max(MIN_FONT_SIZE, _fitting_size(words, width, size, weight, _list_families()))


def measure_words(words: str, size: float, weight: str = "normal") -> float:
    """Return the width of a line of text that comes from data [inch] at a font size [pt]."""
    return _measure(spell_missing(words), size, weight, _list_families()) / 72


def fit_words(
    words: str, width: float, size: float, weight: str = "normal", n_lines: int = 2
) -> tuple[str, float]:
    """Fit text into a width, in several lines if one line would be too small to read.

    Parameters
    ----------
    words : str
        Text that comes from data. It is broken at blanks, hyphens and underscores, and within what
        is too long for a line.
    width : float
        Available width [inch].
    size : float
        Largest font size [pt].
    weight : str, default "normal"
        Font weight.
    n_lines : int, default 2
        Largest number of lines. What they do not hold is cut off, with an ellipsis.

    Returns
    -------
    words : str
        The text in lines, without characters that the font lacks.
    size : float
        Font size [pt]; at least `MIN_FONT_SIZE`, unless ``size`` is less.
    """
    words, families, least = spell_missing(words), _list_families(), min(size, MIN_FONT_SIZE)

    def measure(line: str) -> float:
        # What fits is 72 * width; the widths are those at the smallest size.
        return _measure(line.rstrip(), least, weight, families)

    pieces = [piece for piece in re.split(r"(?<=[-_ ])(?=[^-_ ])", words) if piece]
    for is_whole in (True, False):
        if not is_whole:
            pieces = [part for one in pieces for part in _cut_evenly(one, 72 * width, measure)]
        for number in range(1, n_lines + 1):
            lines = _balance_lines(pieces, number, measure)
            widest = max(map(measure, lines), default=0.0)
            if widest <= 72 * width:
                fitting = min(size, least * 72 * width / widest) if widest else size
                return "\n".join(line.rstrip() for line in lines), fitting
    lines, rest = [], pieces
    for number in range(n_lines):
        n = max(1, sum(measure("".join(rest[:k])) <= 72 * width for k in range(1, len(rest) + 1)))
        lines.append("".join(rest[:n]) if number < n_lines - 1 else "".join(rest))
        rest = rest[n:]
    last = lines[-1]
    while last and measure(f"{last}…") > 72 * width:
        last = last[:-1].rstrip()
    return "\n".join([*(line.rstrip() for line in lines[:-1]), f"{last}…"]), least


def _cut_evenly(words: str, room: float, measure: Callable[[str], float]) -> list[str]:
    """Cut a word into as few parts as fit a room [pt], of the same number of characters."""
    for n in range(1, len(words) + 1):
        ends = [round(k * len(words) / n) for k in range(n + 1)]
        parts = [words[start:end] for start, end in pairwise(ends)]
        if max(map(measure, parts)) <= room:
            return parts
    return list(words)


def _balance_lines(pieces: list[str], n: int, measure: Callable[[str], float]) -> list[str]:
    """Join pieces to at most n lines whose longest is as short as it can be."""
    widths = np.cumsum([0.0, *map(measure, pieces)])
    best: list[tuple[float, tuple[int, ...]]]
    # best[k] is the width of the longest line, and where each line ends, of the first k pieces.
    best = [(float(width), (k,)) for k, width in enumerate(widths)]
    for _ in range(n - 1):
        best = [
            min(
                [best[k]]
                + [
                    (max(best[j][0], float(widths[k] - widths[j])), (*best[j][1], k))
                    for j in range(1, k)
                ]
            )
            for k in range(len(best))
        ]
    return ["".join(pieces[start:end]) for start, end in pairwise((0, *best[-1][1]))]


@lru_cache(maxsize=4096)
def _fitting_size(
    words: str, width: float, size: float, weight: str, families: Sequence[str]
) -> float:
    extent = _measure(words, size, weight, families)
    return min(size, size * 72 * width / extent) if extent > 0 else size


@lru_cache(maxsize=4096)
def _measure(words: str, size: float, weight: str, families: Sequence[str]) -> float:
    """Return the width of a line of text [pt]."""
    if not words.strip():
        return 0.0
    font = FontProperties(family=list(families), weight=weight)
    extents = TextPath((0, 0), escape_math(words), size=size, prop=font).get_extents()
    return SPREAD * float(extents.width)


def measure_lines(lines: str, size: float) -> float:
    """Return the height [inch] of text of some lines at a font size [pt]."""
    # From the top of a letter to the bottom of another, and the distance of lines.
    return (lines.count("\n") + 1) * 1.35 * size / 72


def move_legend(ax: Axes, width: float | None) -> None:
    """Move a legend that would hide much of a chart out of it: below, or beside it on a slide.

    Parameters
    ----------
    ax : Axes
        The only axes of a figure of galfig, with a legend of `plot_legend`.
    width : float or None
        Width that the user asks for [inch].
    """
    legend, fig = ax.get_legend(), find_figure(ax)
    if legend is None:
        return
    box = legend.get_window_extent()
    room = ax.bbox.width if ax.get_aspect() == "auto" else min(ax.bbox.size)
    if box.height < 0.45 * ax.bbox.height and box.width < room:
        return
    size = float(legend.get_texts()[0].get_fontsize())
    is_beside = find_page() is not None and width is None
    # The width of the legend, less the samples of the lines.
    room = (0.42 * fig.get_figwidth() if is_beside else fig.get_figwidth() - 0.15) - 4 * size / 72
    fitted = [
        fit_words(str(text.get_label()), room, size, n_lines=2 * MAX_LINES)
        for text in legend.get_texts()
    ]
    handles = [one for one in legend.legend_handles if one is not None]
    title = legend.get_title().get_text()
    legend.remove()
    size = min(found for _, found in fitted)
    style: dict[str, Any] = {
        "loc": "outside center right" if is_beside else "outside lower center",
        "fontsize": size,
        "title": title or None,
        "title_fontsize": size,
    }
    moved = fig.legend(handles, [str(number) for number in range(len(fitted))], **style)
    for text, (words, _) in zip(moved.get_texts(), fitted, strict=True):
        text.set_parse_math(False)
        text.set_text(words.replace("\N{NO-BREAK SPACE}", " "))
    if not is_beside:
        height = moved.get_window_extent().height / fig.dpi
        fig.set_figheight(fig.get_figheight() + height)
