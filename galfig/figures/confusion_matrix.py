"""Confusion matrix: numbers of galaxies by true and predicted class."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from galfig.figures.captions import Markup, describe_sample, describe_training
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.style import COLUMN_WIDTH, escape_math, find_figure, open_axes, wrap_words
from galfig.metrics import count_confusions
from galfig.store.reader import Store
from galfig.store.selection import Selection, require_labels


def make_confusion_matrix(
    counts: NDArray[np.int64],
    class_names: Sequence[str],
    symbol: str = "",
    width: float | None = None,
    *,
    ax: Axes | None = None,
    cmap: str | None = None,
) -> Figure:
    """Draw a confusion matrix with counts and row-normalised fractions.

    Parameters
    ----------
    counts : (C, C) ndarray of int
        Galaxies by true class (rows) and predicted class (columns).
    class_names : sequence of str
        Name of each class.
    symbol : str, optional
        Symbol of the quantity for the axis labels: "Z" gives *Predicted Z* and *True Z*.
    width : float, optional
        Width of the figure [inch]. The default grows with the number of classes, up to one column.
    ax : Axes, optional
        Axes to draw on; a new figure by default.
    cmap : str, optional
        Colour map of the fractions; it should be light at zero. Default "Blues".

    Returns
    -------
    Figure
    """
    side = width or min(COLUMN_WIDTH, 1.6 + 0.6 * len(class_names))
    with open_axes(ax, (side, side * 0.92)) as axes:
        plot_confusion_matrix(counts, class_names, symbol, ax=axes, cmap=cmap)
        return find_figure(axes)


def plot_confusion_matrix(
    counts: NDArray[np.int64],
    class_names: Sequence[str],
    symbol: str = "",
    *,
    ax: Axes,
    cmap: str | None = None,
) -> AxesImage:
    """Shade each cell by its fraction of the row, and write the count and the percentage."""
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    image = ax.imshow(shares, cmap=cmap or "Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        words = f"{count}\n{100 * share:.0f}%" if totals[row, 0] else "0"
        color = "white" if share > 0.6 else "black"
        ax.text(column, row, words, ha="center", va="center", color=color, parse_math=False)
    # Approximate width that the axis labels leave [inch].
    room = 0.75 * ax.figure.bbox.width / ax.figure.dpi
    ticks = range(len(class_names))
    names = [wrap_words(escape_math(name), room / len(class_names), 7) for name in class_names]
    ax.set_xticks(ticks, names)
    ax.set_yticks(ticks, names, rotation=90, va="center", multialignment="center")
    ax.tick_params(length=0)
    ax.set_xlabel(wrap_words(escape_math(f"Predicted {symbol}".strip()), room, 8))
    ax.set_ylabel(wrap_words(escape_math(f"True {symbol}".strip()), room, 8))
    return image


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the confusion matrix of the galaxies of a selection."""
    require_labels(store, "a confusion matrix")
    chosen = selection.indices[store.label[selection.indices] >= 0]
    counts = count_confusions(
        store.label[chosen].astype(np.intp), store.predicted[chosen], len(store.class_names)
    )
    classes = store.settings.classes
    symbol = classes.symbol or classes.name
    return Drawing(
        "confusion-matrix",
        "Confusion matrix",
        (
            make_confusion_matrix(
                counts,
                store.class_names,
                symbol,
                options.width,
                ax=options.ax,
                cmap=options.cmap,
            ),
        ),
        partial(_describe, store, selection, counts),
        f"Confusion matrix of {counts.sum()} galaxies, with true classes as rows and predicted "
        f"classes as columns, in the order {', '.join(store.class_names)}: {_spell_rows(counts)}.",
        partial(_tabulate, counts, store.class_names),
    )


def _spell_rows(counts: NDArray[np.int64]) -> str:
    return "; ".join(" ".join(map(str, row)) for row in counts)


def _tabulate(counts: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, Column]:
    names = np.array(class_names)
    true, predicted = np.indices(counts.shape).reshape(2, -1)
    totals = np.maximum(counts.sum(axis=1), 1)
    return {
        "true": Column(names[true], "true class"),
        "predicted": Column(names[predicted], "predicted class"),
        "n": Column(counts.ravel(), "galaxies"),
        "share": Column(counts.ravel() / totals[true], "share of the true class"),
    }


def _describe(store: Store, selection: Selection, counts: NDArray[np.int64], markup: Markup) -> str:
    n, n_right = int(counts.sum()), int(np.trace(counts))
    return (
        f"Confusion matrix of {describe_sample(store, selection, markup)}.\n"
        "Each cell gives the number of galaxies and their share of the true class; the shade shows "
        "the same share.\n"
        f"{n_right} of {n} are classified correctly ({100 * n_right / n:.1f}{markup.percent}).\n"
        + describe_training(store, markup)
    )
