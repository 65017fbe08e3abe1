"""Learning rate: the curve of the learning-rate finder, and the rate chosen."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from galfig.errors import FigureError
from galfig.figures.captions import (
    Markup,
    describe_own_training,
    describe_smoothing,
    join_lines,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.style import chart_size, find_figure, format_power, list_curve_colors, open_axes
from galfig.records import LearningRateCurve
from galfig.store.reader import Store
from galfig.store.selection import Selection


def make_learning_rate(
    rates: ArrayLike,
    losses: ArrayLike,
    chosen: float,
    width: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the loss against the learning rate, and mark the rate chosen.

    Parameters
    ----------
    rates, losses : (n,) array_like of float
        Learning rate and smoothed training loss at each step of the finder.
    chosen : float
        Learning rate with which the network was trained.
    width : float, optional
        Width of the figure [inch]; default one column.
    ax : Axes, optional
        Axes to draw on; a new figure by default.

    Returns
    -------
    Figure
    """
    with open_axes(ax, chart_size(width, 0.68)) as axes:
        plot_finder_curve(rates, losses, chosen, ax=axes)
        return find_figure(axes)


def plot_finder_curve(rates: ArrayLike, losses: ArrayLike, chosen: float, *, ax: Axes) -> None:
    """Draw the curve of the finder up to where the loss explodes, and mark the rate chosen."""
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    order = np.argsort(rates)
    ax.plot(rates, losses, color=list_curve_colors()[0])
    loss = float(np.interp(np.log(chosen), np.log(rates[order]), losses[order]))
    ax.plot(
        chosen, loss, "o", color=list_curve_colors()[1], markersize=4, label=f"chosen: {chosen:.2g}"
    )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda rate, _: format_power(round(np.log10(rate))))
    ax.xaxis.set_minor_formatter("")
    # Where the loss explodes, it would flatten the rest of the curve.
    ax.set_ylim(*_limit_losses(losses))
    ax.set_xlabel("Learning rate")
    ax.set_ylabel("Training loss, smoothed")
    ax.legend(loc="lower left")


def _limit_losses(losses: NDArray[np.float64]) -> tuple[float, float]:
    """Return the limits of the loss axis: from below the minimum to well above the first loss."""
    low, start = float(np.nanmin(losses)), float(losses[0])
    return low - 0.1 * (start - low) - 0.01, start + 0.6 * (start - low) + 0.05


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the curve of the finder for the network that made a store."""
    # Of several networks, the first is drawn, and the caption gives the rates of the others.
    network = store.record.networks[0] if store.record.networks else store.training
    finder, chosen = network.lr_finder, network.lr
    if finder is None or chosen is None:
        raise FigureError(
            f"{store.path}: its network was trained at a fixed learning rate, expected one from "
            'the finder; train with `lr="auto"`'
        )
    losses = np.asarray(finder.loss)
    limit = _limit_losses(losses)[1]
    is_cut = bool(np.nanmax(losses) > limit)
    return Drawing(
        "learning-rate",
        "Learning rate",
        (make_learning_rate(finder.lr, finder.loss, chosen, options.width, options.ax),),
        partial(_describe, store, finder, chosen, limit if is_cut else None),
        "Training loss against learning rate on a logarithmic axis, with a point at the rate "
        f"chosen, {chosen:.2g}.",
        lambda: {
            "lr": Column(finder.lr, "learning rate"),
            "loss": Column(finder.loss, "training loss, smoothed"),
        },
    )


def _describe_others(store: Store, markup: Markup) -> str:
    """State the rates of the networks of an ensemble; "" of one network."""
    rates = [network.lr for network in store.record.networks if network.lr is not None]
    if not rates:
        return ""
    low, high = (markup.scientific(rate) for rate in (min(rates), max(rates)))
    return (
        f"The curve is that of the first of {len(rates)} networks with different seeds; the rates "
        f"chosen for all of them lie between {low} and {high}."
    )


def _describe(
    store: Store, finder: LearningRateCurve, chosen: float, limit: float | None, markup: Markup
) -> str:
    cut = "" if limit is None else f" Losses above {limit:.2g} lie beyond the axis."
    first, last = (markup.scientific(rate) for rate in (min(finder.lr), max(finder.lr)))
    return join_lines(
        f"Training loss against learning rate, which grows step by step from {first} to {last} "
        "(the finder of fastai; Smith 2017).",
        f"The loss is {describe_smoothing(len(finder.lr))}.",
        f"The point marks the rate suggested by its 'valley' rule, {markup.scientific(chosen)}, "
        f"the peak rate of the training.{cut}",
        _describe_others(store, markup),
        describe_own_training(store, markup),
    )
