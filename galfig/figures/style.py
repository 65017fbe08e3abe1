"""What all figures share: the style sheet, and text that reads on any image."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import Stroke
from matplotlib.text import Text
from matplotlib.textpath import TextPath

# A column, and a text block of two columns, of AASTeX [inch].
COLUMN_WIDTH, TEXT_WIDTH = 3.39, 7.1
# Of Okabe & Ito (2008), told apart by colour-blind readers; dashes serve those who print in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
# Below this, type is hard to read in print.
MIN_FONT_SIZE = 6.0


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw and save with galfig's style sheet over matplotlib's own defaults.

    The user's ``matplotlibrc`` is left aside, so that a figure looks the same everywhere.
    """
    with as_file(files("galfig.figures") / "paper.mplstyle") as sheet:
        paper = mpl.rc_params_from_file(sheet, use_default_template=False)
    with mpl.rc_context(rc=mpl.rcParamsDefault | paper):
        yield


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
    style = {"fontsize": size, "transform": ax.transAxes, "ha": "center", **style}
    outline = ax.text(x, y, words, color="black", **style)
    outline.set_path_effects([Stroke(linewidth=1.6, foreground="black")])
    return ax.text(x, y, words, color="white", **style)


def escape_math(words: str) -> str:
    """Return words that matplotlib does not read as mathematics."""
    return words.replace("$", r"\$")


def fit_font_size(words: str, width: float, size: float, weight: str = "normal") -> float:
    """Return the font size [pt], at most ``size``, at which words fit in a width [inch]."""
    font = FontProperties(family="DejaVu Sans", weight=weight)
    extent = TextPath((0, 0), escape_math(words), size=size, prop=font).get_extents().width
    return max(MIN_FONT_SIZE, min(size, size * 72 * width / extent)) if extent > 0 else size
