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
from galfig.figures.captions import (
    PLAIN,
    Markup,
    count_noun,
    describe_absent,
    describe_omitted,
    describe_sample,
    describe_training,
    introduce_column,
    join_lines,
    name_axis,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.labels import escape_label, fit_label
from galfig.figures.style import (
    chart_size,
    choose_curve_style,
    find_figure,
    find_ground,
    find_ink,
    list_curve_colors,
    move_legend,
    open_axes,
    plot_legend,
    scale_font,
)
from galfig.store.reader import Store
from galfig.store.selection import Selection

# With more classes, colours and names could not be told apart.
MAX_CLASSES = 8
# More lines than this would fill the figure.
MAX_EDGES = 60
# Of more bins, none could be told from its neighbours; this many have 10 000 galaxies.
MAX_BINS = 200
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
        Label of the horizontal axis, in which ``$...$`` is mathematics.
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
        axes.set_xlabel(fit_label(quantity, room, scale_font(8)))
        if ax is None:
            move_legend(axes, width)
        return fig


def plot_histogram(
    value: NDArray[np.float64], edges: Sequence[float], labels: Sequence[str], *, ax: Axes
) -> None:
    """Draw the counts of each class, in bins that do not cross an edge, and mark the edges.

    With more than `MAX_CLASSES` classes, all have one colour and no legend.
    """
    bins = _bins_between(edges, len(value))
    bars, words = [], []
    if len(labels) > MAX_CLASSES:
        inside = value[(value > edges[0]) & (value <= edges[-1])]
        ax.hist(
            np.nextafter(inside, -np.inf),
            bins=bins.tolist(),
            color=list_curve_colors()[0],
            alpha=0.75,
        )
        labels = ()
    for index, label in enumerate(labels):
        low, high = edges[index], edges[index + 1]
        inside = value[(value > low) & (value <= high)]
        if not len(inside):
            continue
        # Histogram bins are [a, b), but a value on an edge belongs to the class below the edge.
        _, _, drawn = ax.hist(
            np.nextafter(inside, -np.inf),
            bins=bins.tolist(),
            color=choose_curve_style(index)["color"],
            alpha=0.75,
            hatch=_HATCHES[index % len(_HATCHES)],
            edgecolor=find_ground(),
            linewidth=0.3,
        )
        bars.append(drawn)
        words.append(f"{label} ({len(inside)})")
    for edge in edges if len(edges) <= MAX_EDGES else ():
        ax.axvline(edge, color=find_ink(0.3), linewidth=0.6, linestyle="--")
    ax.set_ylabel("Galaxies")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    if words:
        # Edges would otherwise run through its samples.
        plot_legend(
            *(bars, words),
            ax=ax,
            frameon=True,
            framealpha=1.0,
            facecolor=find_ground(),
            edgecolor="none",
        )


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
    quantity = name_axis(store, classes.column)
    if classes.name and quantity == escape_label(classes.column):
        # Not str.capitalize, which would turn EW(Hα) into Ew(hα).
        name = escape_label(classes.name)
        quantity = f"{name[0].upper()}{name[1:]} ({quantity})"
    edges, labels = classes.edges, classes.labels
    return Drawing(
        "histogram",
        f"Histogram of {PLAIN.label(name_axis(store, classes.column))}",
        (make_histogram(value, edges, labels, quantity, options.width, options.ax),),
        partial(_describe, store, selection, len(value)),
        f"Histogram of {PLAIN.label(quantity)} of {count_noun(len(value))} from "
        f"{value.min():.4g} to {value.max():.4g}, coloured by class, with the edges of the "
        "classes.",
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
    target = (edges[-1] - edges[0]) / np.clip(2 * np.sqrt(n), 12, MAX_BINS)
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


def _describe(store: Store, selection: Selection, n: int, markup: Markup) -> str:
    classes = store.settings.classes
    edges, labels = classes.edges or (), classes.labels or ()
    if len(labels) > MAX_CLASSES:
        names = f"{len(labels)} classes, from {edges[0]:g} to {edges[-1]:g}"
    else:
        bounds = [markup.math(f"({a:g}, {b:g}]") for a, b in pairwise(edges)]
        names = "; ".join(map(" ".join, zip(map(markup.text, labels), bounds, strict=True)))
    lines = "Dashed lines mark the" if len(edges) <= MAX_EDGES else "The"
    n_without = len(selection.indices) - n
    absent = describe_absent(store, markup)
    return join_lines(
        f"Distribution of {introduce_column(store, store.settings.classes.column, markup)} for "
        f"{describe_sample(store, selection, markup)}.",
        describe_omitted(store, selection),
        f"Of these, {n_without} without a value {'is' if n_without == 1 else 'are'} not counted."
        if n_without
        else "",
        f"{lines} edges of the classes, which are intervals closed on the right: {names}.",
        f"Not drawn are the catalog's {absent}, which the network does not tell apart."
        if absent
        else "",
        describe_training(store, markup, with_classes=False),
    )
