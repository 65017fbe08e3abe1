"""Learning rate: the finder's curve, and the rate chosen."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from galfig.errors import FigureError
from galfig.figures.captions import Markup, describe_training
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.style import COLORS, chart_size, format_power, paper_style
from galfig.store.reader import Store
from galfig.store.selection import Selection


def make_learning_rate(
    rates: ArrayLike, losses: ArrayLike, chosen: float, width: float | None = None
) -> Figure:
    """Draw the loss against the learning rate, with the rate chosen.

    Parameters
    ----------
    rates, losses : (n,) array_like of float
        The finder's steps.
    chosen : float
        The rate that the network was trained at.
    width : float, optional
        Width of the figure [inch]; default one column.
    """
    with paper_style():
        fig = Figure(figsize=chart_size(width, 0.68), layout="constrained")
        plot_finder_curve(rates, losses, chosen, ax=fig.subplots())
        return fig


def plot_finder_curve(rates: ArrayLike, losses: ArrayLike, chosen: float, *, ax: Axes) -> None:
    """Draw the finder's curve up to where the loss has doubled, and mark a rate on it."""
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    order = np.argsort(rates)
    ax.plot(rates, losses, color=COLORS[0])
    loss = float(np.interp(np.log(chosen), np.log(rates[order]), losses[order]))
    ax.plot(chosen, loss, "o", color=COLORS[1], markersize=4, label=f"chosen: {chosen:.2g}")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda rate, _: format_power(round(np.log10(rate))))
    ax.xaxis.set_minor_formatter("")
    # Beyond, the loss explodes and would flatten everything else.
    low, start = np.nanmin(losses), losses[0]
    ax.set_ylim(low - 0.1 * (start - low) - 0.01, start + 0.6 * (start - low) + 0.05)
    ax.set_xlabel("Learning rate")
    ax.set_ylabel("Training loss, smoothed")
    ax.legend(loc="lower left")


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the finder's curve of the network that made a store."""
    finder = store.training.get("lr_finder")
    if not finder:
        raise FigureError(
            f"{store.path}: its network was trained at a fixed learning rate, expected one from "
            'the finder; train with `lr="auto"`'
        )
    chosen = float(store.training["lr"])
    return Drawing(
        "learning-rate",
        "Learning rate",
        (make_learning_rate(finder["lr"], finder["loss"], chosen, options.width),),
        partial(_describe, store, chosen),
        "Training loss against learning rate on a logarithmic axis, with a point at the rate "
        f"chosen, {chosen:.2g}.",
        lambda: {
            "lr": Column(finder["lr"], "learning rate"),
            "loss": Column(finder["loss"], "training loss, smoothed"),
        },
    )


def _describe(store: Store, chosen: float, markup: Markup) -> str:
    return (
        "Training loss against learning rate, as the rate grows step by step from "
        f"{markup.power(-7)} (the finder of fastai; Smith 2017).\n"
        f"The point is the rate that its 'valley' rule suggests, {chosen:.2g}, at whose peak the "
        "network was then trained; the curve is cut where the loss explodes.\n"
        + describe_training(store, markup)
    )
