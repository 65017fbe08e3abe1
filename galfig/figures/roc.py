"""ROC curve: true against false positive rate, with the area under it and its uncertainty."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.errors import FigureError
from galfig.figures.captions import (
    Markup,
    count_noun,
    describe_choice,
    describe_omitted,
    describe_sample,
    describe_training,
    join_lines,
    name_classes,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.style import (
    COLUMN_WIDTH,
    MAX_CURVES,
    MIN_FONT_SIZE,
    choose_curve_style,
    fill_page,
    find_figure,
    find_ink,
    list_curve_colors,
    move_legend,
    open_axes,
    plot_legend,
    scale_font,
)
from galfig.metrics import RocCurve, compute_roc
from galfig.store.reader import Store
from galfig.store.selection import Selection, require_labels

# Marks the curves among the lines of axes.
_GID = "galfig-roc-"


def make_roc(
    curves: Mapping[str, RocCurve], width: float | None = None, ax: Axes | None = None
) -> Figure:
    """Draw ROC curves.

    Parameters
    ----------
    curves : mapping of str to RocCurve
        The curves, by name of the positive class.
    width : float, optional
        Width and height of the figure [inch]; default one column.
    ax : Axes, optional
        Axes to draw on; a new figure by default.

    Returns
    -------
    Figure
    """
    with open_axes(ax, fill_page(width, (width or COLUMN_WIDTH,) * 2)) as axes:
        plot_roc(curves, ax=axes)
        if ax is None:
            move_legend(axes, width)
        return find_figure(axes)


def plot_roc(curves: Mapping[str, RocCurve], *, ax: Axes) -> None:
    """Draw ROC curves, and the diagonal of a random classifier.

    Curves that this function drew on the axes before stay, and are listed in the legend.
    """
    lines = [line for line in ax.lines if str(line.get_gid()).startswith(_GID)]
    if not lines:
        ax.plot([0, 1], [0, 1], color=find_ink(0.6), linewidth=0.6, linestyle=":")
    for name, curve in curves.items():
        style = choose_curve_style(len(lines))
        (line,) = ax.plot(curve.false_positive_rate, curve.true_positive_rate, **style)
        line.set_gid(f"{_GID}{len(lines)}")
        # Blanks that no line of the legend may end at.
        line.set_label(
            f"{name}: {curve.area:.3f}\N{NO-BREAK SPACE}"
            f"[{curve.low:.3f},\N{NO-BREAK SPACE}{curve.high:.3f}]"
        )
        lines.append(line)
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_aspect("equal")
    ax.set_xlabel("False positive rate")
    ax.set_ylabel("True positive rate")
    plot_legend(
        lines,
        [str(line.get_label()) for line in lines],
        ax=ax,
        loc="lower right",
        title="Area [95% interval]",
        title_fontsize=scale_font(7) if len(lines) <= len(list_curve_colors()) else MIN_FONT_SIZE,
        fontsize=scale_font(7) if len(lines) <= len(list_curve_colors()) else MIN_FONT_SIZE,
    )


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the ROC curves of the galaxies of a selection.

    With two classes, only the curve of the second is drawn: that of the first is its mirror image.
    """
    require_labels(store, "a ROC curve")
    chosen = selection.indices[store.label[selection.indices] >= 0]
    labels, probs = store.label[chosen], store.probs[chosen]
    names = name_classes(store)
    if len(names) > MAX_CURVES:
        raise FigureError(
            f"roc: {len(names)} classes, expected at most {MAX_CURVES}, whose curves can be told "
            "apart; draw the confusion matrix"
        )
    for index, name in enumerate(names):
        if not np.any(labels == index):
            raise FigureError(
                f"{store.path}: no galaxy of class {name!r} is selected, expected some of each"
            )
    drawn = [1] if len(names) == 2 else range(len(names))
    curves = {names[index]: compute_roc(labels == index, probs[:, index]) for index in drawn}
    areas = "; ".join(f"{name} {curve.area:.3f}" for name, curve in curves.items())
    return Drawing(
        "roc",
        "ROC curve",
        (make_roc(curves, options.width, options.ax),),
        partial(_describe, store, selection, curves),
        f"True positive rate against false positive rate of {count_noun(len(chosen))}; area under "
        "the curve: "
        f"{areas}.",
        partial(_tabulate, curves),
    )


def _tabulate(curves: Mapping[str, RocCurve]) -> dict[str, Column]:
    lengths = [len(curve.true_positive_rate) for curve in curves.values()]

    def gather(name: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(curve, name) for curve in curves.values()])

    return {
        "class": Column(np.repeat(list(curves), lengths), "positive class"),
        "false_positive_rate": Column(gather("false_positive_rate"), "false positive rate"),
        "true_positive_rate": Column(gather("true_positive_rate"), "true positive rate"),
    }


def _describe(
    store: Store, selection: Selection, curves: Mapping[str, RocCurve], markup: Markup
) -> str:
    areas = "; ".join(
        f"{markup.text(name)} {curve.area:.3f} ({curve.low:.3f} to {curve.high:.3f})"
        for name, curve in curves.items()
    )
    if len(curves) == 1:
        other, this = (markup.text(name) for name in name_classes(store))
        what = f"of {this} against {other}"
    else:
        what = "of each class against the rest"
    several = len(curves) > 1
    return join_lines(
        f"Receiver operating characteristic {what}, for "
        f"{describe_sample(store, selection, markup)}.",
        describe_omitted(store, selection, needs_label=True),
        f"{'Areas under the curves' if several else 'Area under the curve'} with "
        f"{'their' if several else 'its'} 95{markup.percent} interval{'s' if several else ''} "
        "(method 5 of Newcombe 2006, with its variance scaled to that of DeLong et al. 1988, only "
        f"in part where that is smaller): {areas}.",
        describe_choice(store, selection),
        "The dotted diagonal is a classifier that guesses.",
        describe_training(store, markup),
    )
