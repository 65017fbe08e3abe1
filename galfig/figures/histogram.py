"""Histogram of the binned quantity, with the edges of the classes."""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial, reduce
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from galfig.errors import FigureError
from galfig.figures.captions import Markup, describe_sample, describe_training
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.style import (
    COLORS,
    chart_size,
    escape_math,
    find_figure,
    open_axes,
    plot_legend,
    wrap_words,
)
from galfig.store.reader import Store
from galfig.store.selection import Selection

_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")


def make_histogram(
    value: NDArray[np.float64],
    edges: Sequence[float],
    labels: Sequence[str],
    quantity: str,
    width: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a histogram of a quantity, coloured by class.

    Parameters
    ----------
    value : (N,) ndarray of float
        The quantity.
    edges : sequence of float
        The C + 1 edges of the classes, which are the intervals (a, b].
    labels : sequence of str
        Name of each class, (C,).
    quantity : str
        Label of the horizontal axis.
    width : float, optional
        Width of the figure [inch]; default one column.
    ax : Axes, optional
        Axes to draw on; a new figure by default.

    Returns
    -------
    Figure
    """
    with open_axes(ax, chart_size(width, 0.68)) as axes:
        fig = find_figure(axes)
        plot_histogram(value, edges, labels, ax=axes)
        room = 0.8 * fig.get_figwidth()
        axes.set_xlabel(wrap_words(escape_math(quantity), room, 8))
        return fig


def plot_histogram(
    value: NDArray[np.float64], edges: Sequence[float], labels: Sequence[str], *, ax: Axes
) -> None:
    """Draw the counts of each class, in bins that do not cross an edge, and mark the edges."""
    bins = _bins_between(edges, len(value))
    bars, words = [], []
    for index, label in enumerate(labels):
        low, high = edges[index], edges[index + 1]
        inside = value[(value > low) & (value <= high)]
        if not len(inside):
            continue
        # Histogram bins are [a, b), but a value on an edge belongs to the class below the edge.
        _, _, drawn = ax.hist(
            np.nextafter(inside, -np.inf),
            bins=bins.tolist(),
            color=COLORS[index % len(COLORS)],
            alpha=0.75,
            hatch=_HATCHES[index % len(_HATCHES)],
            edgecolor="white",
            linewidth=0.3,
        )
        bars.append(drawn)
        words.append(f"{label} ({len(inside)})")
    for edge in edges:
        ax.axvline(edge, color="0.3", linewidth=0.6, linestyle="--")
    ax.set_ylabel("Galaxies")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    plot_legend(bars, words, ax=ax)


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the histogram of the galaxies of a selection."""
    classes = store.settings.classes
    value = store.value[selection.indices]
    value = value[np.isfinite(value)]
    if not classes.edges or not classes.labels:
        raise FigureError(
            f"{store.path}: no number was binned, expected bins of a number; a histogram needs "
            "[classes] edges"
        )
    if not len(value):
        raise FigureError(
            f"{store.path}: none of these galaxies has a value of {classes.column!r}, expected "
            "numbers; build it from a catalog with that column"
        )
    quantity = classes.column
    if classes.name:
        # Not str.capitalize, which would turn EW(Hα) into Ew(hα).
        name = classes.name
        quantity = f"{name[0].upper()}{name[1:]} ({quantity})"
    edges, labels = classes.edges, classes.labels
    return Drawing(
        "histogram",
        f"Histogram of {classes.column}",
        (make_histogram(value, edges, labels, quantity, options.width, options.ax),),
        partial(_describe, store, selection),
        f"Histogram of {quantity} of {len(value)} galaxies from {value.min():.4g} to "
        f"{value.max():.4g}, coloured by class, with the edges of the classes.",
        partial(_tabulate, value, edges, labels),
    )


def _tabulate(
    value: NDArray[np.float64], edges: Sequence[float], labels: Sequence[str]
) -> dict[str, Column]:
    bins = _bins_between(edges, len(value))
    # A value on an edge is counted below the edge, as in the figure.
    counts, _ = np.histogram(np.nextafter(value, -np.inf), bins)
    index = np.searchsorted(edges, (bins[:-1] + bins[1:]) / 2) - 1
    return {
        "low": Column(bins[:-1], "lower edge of the bin, not in it"),
        "high": Column(bins[1:], "upper edge of the bin, in it"),
        "class": Column(np.array(labels)[index], "class of the bin"),
        "n": Column(counts, "galaxies"),
    }


def _bins_between(edges: Sequence[float], n: int) -> NDArray[np.float64]:
    """Return bins for n galaxies that do not cross an edge, of equal width if possible."""
    target = (edges[-1] - edges[0]) / max(12, 2 * np.sqrt(n))
    gaps = [Fraction(str(b)) - Fraction(str(a)) for a, b in pairwise(edges)]
    common = float(reduce(_common_divisor, gaps))
    width = common / max(1, round(common / target)) if common > target / 3 else target
    runs = [
        np.linspace(a, b, max(1, round((b - a) / width)), endpoint=False)
        for a, b in pairwise(edges)
    ]
    return np.concatenate([*runs, [edges[-1]]])


def _common_divisor(a: Fraction, b: Fraction) -> Fraction:
    shared = math.gcd(a.numerator * b.denominator, b.numerator * a.denominator)
    return Fraction(shared, a.denominator * b.denominator)


def _describe(store: Store, selection: Selection, markup: Markup) -> str:
    classes = store.settings.classes
    column = markup.text(classes.column)
    bounds = [markup.math(f"({a:g}, {b:g}]") for a, b in pairwise(classes.edges or ())]
    labels = [markup.text(label) for label in classes.labels or ()]
    bins = "; ".join(map(" ".join, zip(labels, bounds, strict=True)))
    kept = ", ".join(markup.text(name) for name in store.class_names)
    return (
        f"Distribution of {column} for {describe_sample(store, selection, markup)}.\n"
        f"Dashed lines mark the edges of the classes, each closed on the right: {bins}.\n"
        f"The network tells apart, and the store holds, the classes {kept}.\n"
        + describe_training(store, markup)
    )
