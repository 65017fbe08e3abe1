"""Reliability: the fraction classified correctly against the predicted probability."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from galfig.figures.captions import (
    Markup,
    count_noun,
    describe_accuracy,
    describe_choice,
    describe_omitted,
    describe_sample,
    describe_training,
    join_lines,
    name_classes,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.style import chart_size, find_figure, find_ink, list_curve_colors, paper_style
from galfig.metrics import N_BINS, count_reliability, wilson_interval
from galfig.store.reader import Store
from galfig.store.selection import Selection, require_labels


def make_reliability(
    p: NDArray[np.floating],
    is_right: NDArray[np.bool_],
    n_classes: int,
    width: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the fraction classified correctly against p, and below it the number of galaxies.

    Parameters
    ----------
    p : (N,) ndarray of float
        Probability of the predicted class.
    is_right : (N,) ndarray of bool
        Whether the prediction is correct.
    n_classes : int
        Number of classes; p starts at ``1 / n_classes``.
    width : float, optional
        Width of the figure [inch]; default one column.
    ax : Axes, optional
        Axes to draw on, without the number of galaxies; a new figure by default.

    Returns
    -------
    Figure
    """
    if ax is not None:
        plot_reliability(p, is_right, n_classes, ax=ax)
        ax.set_xlabel("$p$ of the predicted class")
        return find_figure(ax)
    with paper_style():
        fig = Figure(figsize=chart_size(width, 1.06), layout="constrained")
        shares, counts = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        plot_reliability(p, is_right, n_classes, ax=shares)
        counts.hist(
            p, bins=np.linspace(1 / n_classes, 1, N_BINS + 1), color=find_ink(0.6), rwidth=0.92
        )
        counts.set_ylabel("Galaxies")
        counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        counts.set_xlabel("$p$ of the predicted class")
        return fig


def plot_reliability(
    p: NDArray[np.floating], is_right: NDArray[np.bool_], n_classes: int, *, ax: Axes
) -> None:
    """Draw the fraction classified correctly in bins of p, and the line where it equals p."""
    mean_p, n, n_right = count_reliability(p, is_right, n_classes)
    low, high = wilson_interval(n_right, n)
    share = n_right / n
    start = 1 / n_classes
    ax.plot([start, 1], [start, 1], color=find_ink(0.6), linewidth=0.6, linestyle=":")
    errors = np.maximum([share - low, high - share], 0)
    ax.errorbar(
        mean_p, share, errors, fmt="o", markersize=3, color=list_curve_colors()[0], linewidth=0.8
    )
    ax.set_xlim(start - 0.02, 1.02)
    ax.set_ylim(-0.02, 1.04)
    ax.set_ylabel("Share classified correctly")


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the reliability of the galaxies of a selection."""
    require_labels(store, "a reliability diagram")
    chosen = selection.indices[store.label[selection.indices] >= 0]
    p = store.probs[chosen].max(axis=1)
    is_right = store.predicted[chosen] == store.label[chosen]
    return Drawing(
        "reliability",
        "Reliability diagram",
        (make_reliability(p, is_right, len(store.class_names), options.width, options.ax),),
        partial(_describe, store, selection, p, has_counts=options.ax is None),
        f"Share of {count_noun(len(p))} classified correctly against the probability of the "
        f"predicted class; the mean probability is {p.mean():.3f} and the share correct "
        f"{is_right.mean():.3f}.{' Below, the number of galaxies.' if options.ax is None else ''}",
        partial(_tabulate, p, is_right, len(store.class_names)),
    )


def _tabulate(
    p: NDArray[np.floating], is_right: NDArray[np.bool_], n_classes: int
) -> dict[str, Column]:
    mean_p, n, n_right = count_reliability(p, is_right, n_classes)
    low, high = wilson_interval(n_right, n)
    return {
        "p": Column(mean_p, "mean probability of the predicted class in the bin"),
        "n": Column(n, "galaxies"),
        "n_right": Column(n_right, "galaxies classified correctly"),
        "low": Column(low, "lower end of the Wilson interval of the share"),
        "high": Column(high, "upper end of the Wilson interval of the share"),
    }


def _describe_line(store: Store, selection: Selection, markup: Markup) -> str:
    """Say what the dotted line is: calibration, unless the truth decided which galaxies count.

    Of all galaxies with a probability p, a calibrated network classifies the share p correctly. Of
    those of one true class, it may classify all or none.
    """
    query, labels = selection.query, store.label[selection.indices]
    n_classes = len(np.unique(labels[labels >= 0]))
    is_part = len(selection.indices) < selection.n_candidates
    if n_classes == 1:
        why = "these galaxies are all of one true class"
    elif query.correct is not None or (is_part and query.sort == "loss"):
        why = "these galaxies were chosen by how they are classified"
    else:
        return "The dotted line marks perfect calibration."
    return (
        f"The dotted line marks a share of {markup.math('p')}; a calibrated network need not lie "
        f"on it here, because {why}."
    )


def _describe(
    store: Store,
    selection: Selection,
    p: NDArray[np.floating],
    markup: Markup,
    *,
    has_counts: bool,
) -> str:
    points = (
        f"hare of galaxies classified correctly in bins of {markup.math('p')}, the probability of "
        f"the predicted class, with 68{markup.percent} Wilson intervals. "
        f"{_describe_line(store, selection, markup)}"
    )
    panels = f"Top: s{points} Bottom: galaxies in each bin." if has_counts else f"S{points}"
    score, choice = store.score(selection.indices), describe_choice(store, selection)
    return join_lines(
        f"Reliability of the probabilities of {describe_sample(store, selection, markup)}.",
        describe_omitted(store, selection, needs_label=True),
        panels,
        f"The mean {markup.math('p')} is {float(p.mean()):.3f}; the network classifies "
        f"{describe_accuracy(score, name_classes(store), markup)}."
        if score is not None and not choice
        else "",
        choice,
        describe_training(store, markup, with_accuracy=bool(choice)),
    )
