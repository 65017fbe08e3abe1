"""What all figures share: the style sheet, and text that reads on any image."""

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.resources import as_file, files
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.legend import Legend
from matplotlib.patheffects import Stroke
from matplotlib.text import Text
from matplotlib.textpath import TextPath

from galfig.figures.latex import spell_sign

# As in paper.mplstyle.
FONT = "DejaVu Sans"
# A column, and a text block of two columns, of AASTeX [inch].
COLUMN_WIDTH, TEXT_WIDTH = 3.39, 7.1
# Of Okabe & Ito (2008), told apart by colour-blind readers; dashes serve those who print in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
# Below this, type is hard to read in print.
MIN_FONT_SIZE = 6.0
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw and save with galfig's style sheet over matplotlib's own defaults.

    The user's ``matplotlibrc`` is left aside, so that a figure looks the same everywhere.
    """
    with as_file(files("galfig.figures") / "paper.mplstyle") as sheet:
        paper = mpl.rc_params_from_file(sheet, use_default_template=False)
    with mpl.rc_context(rc=mpl.rcParamsDefault | paper):
        yield


def chart_size(width: float | None, aspect: float) -> tuple[float, float]:
    """Return the size [inch] of a chart: a column wide unless told, wide ones less high."""
    width = width or COLUMN_WIDTH
    return width, aspect * (min(width, COLUMN_WIDTH) + 0.4 * max(0.0, width - COLUMN_WIDTH))


@contextmanager
def open_axes(ax: Axes | None, size: tuple[float, float]) -> Iterator[Axes]:
    """Give a caller's own axes, in the caller's style, or those of a new figure in the paper's.

    Parameters
    ----------
    ax : Axes or None
        Of the caller.
    size : (float, float)
        Width and height of a new figure [inch].
    """
    if ax is not None:
        yield ax
        return
    with paper_style():
        yield Figure(figsize=size, layout="constrained").subplots()


def find_figure(ax: Axes) -> Figure:
    """Return the figure that holds some axes, those of a subfigure too."""
    figure = ax.figure
    return figure if isinstance(figure, Figure) else figure.figure


@contextmanager
def keep_layout(fig: Figure) -> Iterator[None]:
    """Put the axes of a figure back where they were before it was drawn.

    A constrained layout starts from where the last drawing left the axes, so that a figure that
    was shown would be saved as other bytes than one that was not.
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
            # Axes that are put somewhere count as placed by hand.
            ax.set_in_layout(True)


def plot_outlined_text(
    x: float, y: float, words: str, *, ax: Axes, size: float, **style: Any
) -> Text:
    """Write white text with a dark outline, in coordinates of the axes.

    The outline is a text of its own below the white one: text with path effects is drawn as
    curves, and could neither be searched nor copied in a PDF.

    Parameters
    ----------
    x, y : float
        Position, from 0 to 1.
    words : str
        Text; ``$...$`` is mathematics unless ``parse_math=False``.
    ax : Axes
        Where to write.
    size : float
        Font size [pt].
    **style
        Properties of the text, such as ``weight``.

    Returns
    -------
    Text
        The white one.
    """
    style = {
        "fontsize": size,
        "transform": ax.transAxes,
        "ha": "center",
        "multialignment": "center",
        **style,
    }
    outline = ax.text(x, y, words, color="black", **style)
    outline.set_path_effects([Stroke(linewidth=1.6, foreground="black")])
    return ax.text(x, y, words, color="white", **style)


def format_power(exponent: int) -> str:
    """Write a power of ten as 10⁻³, in letters of full size.

    A raised exponent of mathematics is set at 0.7 of its base, below what can be read in print.
    """
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def plot_legend(handles: Sequence[Any], words: Sequence[str], *, ax: Axes, **style: Any) -> Legend:
    """Draw a legend of words that come from data.

    Matplotlib would leave those out that begin with an underscore, and read ``$...$``.
    """
    legend = ax.legend(handles, [str(number) for number in range(len(words))], **style)
    room = 0.8 * ax.figure.bbox.width / ax.figure.dpi
    for text, label in zip(legend.get_texts(), words, strict=True):
        text.set_parse_math(False)
        text.set_text(wrap_words(spell_missing(label), room, float(text.get_fontsize())))
    return legend


def wrap_words(words: str, width: float, size: float) -> str:
    """Return words in as many lines as they need at a font size [pt] in a width [inch]."""
    # A sign is about so wide, in units of the font size.
    n_signs = int(72 * width / (0.6 * size))
    return words if len(words) <= n_signs else textwrap.fill(words, n_signs)


def spell_missing(words: str) -> str:
    """Return words with the code point of each sign that the font lacks, such as 'U+661F'.

    Matplotlib would draw the same box for all of them, and warn of each.
    """
    return "".join(sign if ord(sign) in _read_charmap() else spell_sign(sign) for sign in words)


@cache
def _read_charmap() -> frozenset[int]:
    """Return the code points that can be drawn in both weights, and read again from a PDF."""
    weights = (FontProperties(family=FONT, weight=weight) for weight in ("normal", "bold"))
    normal, bold = (set(get_font(findfont(weight)).get_charmap()) for weight in weights)
    # Matplotlib's PDF has no text for what is beyond 16 bits.
    return frozenset(
        code for code in normal & bold if code < 1 << 16 and unicodedata.category(chr(code)) != "Cc"
    )


def escape_math(words: str) -> str:
    """Return words that come from data, in which matplotlib reads no mathematics."""
    return spell_missing(words).replace("$", r"\$")


def fit_font_size(words: str, width: float, size: float, weight: str = "normal") -> float:
    """Return the font size [pt], at most ``size``, at which words fit in a width [inch]."""
    return max(MIN_FONT_SIZE, _fitting_size(words, width, size, weight))


def fit_words(words: str, width: float, size: float, weight: str = "normal") -> tuple[str, float]:
    """Return words and their font size [pt]; in two lines where one would be too small to read."""
    words = spell_missing(words)
    fitting = _fitting_size(words, width, size, weight)
    if fitting >= MIN_FONT_SIZE:
        return words, fitting
    # At a hyphen or blank near the middle where there is one: identifiers have none.
    middle = len(words) // 2
    breaks = [i + 1 for i, sign in enumerate(words) if sign in "- _" and 0 < i < len(words) - 1]
    cut = min(breaks, key=lambda i: abs(i - middle), default=(len(words) + 1) // 2)
    lines = (words[:cut].rstrip(), words[cut:])
    return "\n".join(lines), min(fit_font_size(line, width, size, weight) for line in lines)


@lru_cache(maxsize=4096)
def _fitting_size(words: str, width: float, size: float, weight: str) -> float:
    font = FontProperties(family=FONT, weight=weight)
    extent = TextPath((0, 0), escape_math(words), size=size, prop=font).get_extents().width
    return min(size, size * 72 * width / extent) if extent > 0 else size
