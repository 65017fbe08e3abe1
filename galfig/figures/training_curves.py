"""Training curves: losses and metrics of each epoch."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from galfig.errors import FigureError
from galfig.figures.captions import (
    Markup,
    count_noun,
    describe_own_training,
    describe_smoothing,
    join_lines,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.style import LINE_STYLES, chart_size, list_curve_colors, paper_style
from galfig.records import Epoch
from galfig.store.reader import Store
from galfig.store.selection import Selection

_LOSSES = {"train_loss": "training", "valid_loss": "validation"}
_METRICS = {"accuracy": "accuracy", "roc_auc": "ROC AUC", "f1": "F1"}

History = Sequence[Epoch]


def make_training_curves(
    history: History, width: float | None = None, others: Sequence[History] = ()
) -> Figure:
    """Draw losses and, below them, metrics by epoch.

    Parameters
    ----------
    history : sequence of Epoch
        Losses and metrics of each epoch.
    width : float, optional
        Width of the figure [inch]; default one column.
    others : sequence of sequence of Epoch, optional
        The same of further networks, which are drawn as thin curves.

    Returns
    -------
    Figure
    """
    with paper_style():
        fig = Figure(figsize=chart_size(width, 1.06), layout="constrained")
        losses, metrics = fig.subplots(2, 1, sharex=True)
        plot_history(history, _LOSSES, ax=losses, others=others)
        losses.set_ylabel("Loss")
        losses.set_ylim(bottom=0)
        plot_history(history, _METRICS, ax=metrics, others=others)
        metrics.set_ylabel("Validation metric")
        metrics.set_xlabel("Epoch")
        metrics.set_ylim(top=1.02)
        metrics.xaxis.set_major_locator(MaxNLocator(integer=True))
        return fig


def plot_history(
    history: History, names: Mapping[str, str], *, ax: Axes, others: Sequence[History] = ()
) -> None:
    """Draw some of the numbers of each epoch as curves of different colour and line style.

    Those of further networks are drawn as thin curves of the same colour and style.
    """
    epochs = range(1, len(history) + 1)
    for (key, label), color, style in zip(
        names.items(), list_curve_colors(), LINE_STYLES, strict=False
    ):
        values = [getattr(row, key) for row in history]
        if np.isnan(values).all():
            label = f"{label} (not defined)"
        for other in others:
            further = [getattr(row, key) for row in other]
            ax.plot(range(1, len(other) + 1), further, color=color, linestyle=style, linewidth=0.4)
        ax.plot(
            epochs,
            values,
            color=color,
            linestyle=style,
            marker="o",
            markersize=2.5,
            label=label,
        )
    ax.legend()


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the history of the network that made a store, or of each of its networks."""
    networks = store.record.networks
    found = [one.history for one in networks] if networks else [store.training.history]
    histories = [one for one in found if one]
    if len(histories) < len(found):
        raise FigureError(
            f"{store.path}: its network has no training history, expected one from 'galfig train'"
        )
    history, *others = histories
    return Drawing(
        "training-curves",
        "Training curves",
        (make_training_curves(history, options.width, others),),
        partial(_describe, store, histories),
        f"Two charts over {count_noun(len(history), 'epoch')}: training loss, and validation loss, "
        f"which ends at {history[-1].valid_loss:.3f}; and accuracy, ROC AUC and F1, of which the "
        f"accuracy ends at {history[-1].accuracy:.3f}.",
        partial(_tabulate, histories),
    )


def _tabulate(histories: Sequence[History]) -> dict[str, Column]:
    rows = [row for history in histories for row in history]
    epochs = [epoch for history in histories for epoch in range(1, len(history) + 1)]
    columns = {"epoch": Column(epochs, "epoch, from 1")}
    if len(histories) > 1:
        numbers = [n for n, history in enumerate(histories, 1) for _ in history]
        columns = {"network": Column(numbers, "number of the network, from 1"), **columns}
    for name, words in (_LOSSES | _METRICS).items():
        kind = f"{words} loss" if name in _LOSSES else f"{words} of the validation set"
        columns[name] = Column([getattr(row, name) for row in rows], kind)
    return columns


def _describe(store: Store, histories: Sequence[History], markup: Markup) -> str:
    has_area = np.isfinite([row.roc_auc for history in histories for row in history]).all()
    which = "of the network by epoch"
    if len(histories) > 1:
        which = (
            f"by epoch, of the first of {len(histories)} networks with different seeds, and, as "
            "thin curves, of the others"
        )
    settings = store.training.settings
    is_cropped = settings is not None and settings.training.crop_margin > 0
    return join_lines(
        f"Losses and metrics {which}.",
        f"The training loss, on galaxies that are {'cropped, ' if is_cropped else ''}turned and "
        f"flipped at random, is {describe_smoothing(_count_steps(store))}, and so lags behind"
        f"{_describe_parts(store)}.",
        "The validation loss and the metrics are measured on the validation set at the end of each "
        f"epoch{_describe_settling(store)}. ROC AUC and F1 are unweighted means over the classes.",
        "" if has_area else "Where the validation set lacks a class, ROC AUC is not defined.",
        describe_own_training(store, markup),
    )


def _count_steps(store: Store) -> int | None:
    """Return the number of steps that a training averages; None if its record does not tell."""
    training = store.training
    if training.settings is None or not training.n_train:
        return None
    n_train = sum(training.n_train.values())
    # An epoch leaves out its last, incomplete batch.
    n_batches = n_train // min(training.settings.training.batch_size, max(1, n_train))
    networks = store.record.networks
    history = networks[0].history if networks else training.history
    n_frozen, n_epochs = training.settings.training.freeze, len(history or ())
    return n_batches * max(n_frozen, n_epochs - n_frozen)


def _describe_parts(store: Store) -> str:
    """Say where the average of the training loss begins anew; "" of a training in one part."""
    settings = store.training.settings
    n_frozen = 0 if settings is None else settings.training.freeze
    if settings is None or not 0 < n_frozen < settings.training.epochs:
        return ""
    which = "epoch, which trains" if n_frozen == 1 else f"{n_frozen} epochs, which train"
    return f"; it begins anew after the first {which} the last layer alone"


def _describe_settling(store: Store) -> str:
    """Say which statistics are computed anew before the last validation; "" if none are."""
    settings = store.training.settings
    if settings is not None and settings.training.freeze == settings.training.epochs:
        return ""
    # Networks of timm may have other kinds of normalisation, which the record does not tell.
    arch = store.training.arch
    has_batch_norm = arch == "conv3" or arch.startswith("xresnet")
    where = "" if has_batch_norm else ", if the network has any,"
    return (
        f"; before the last measurement, the statistics of batch norm{where} are computed anew on "
        "the training set, with the final weights"
    )
