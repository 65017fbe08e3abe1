"""Confusion matrix: numbers of galaxies by true and predicted class."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from galfig.errors import FigureError
from galfig.figures.captions import (
    Markup,
    count_noun,
    describe_accuracy,
    describe_choice,
    describe_omitted,
    describe_sample,
    describe_training,
    join_lines,
    list_names,
    name_classes,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.labels import escape_label, fit_label, strip_unit
from galfig.figures.style import (
    COLUMN_WIDTH,
    MAX_LINES,
    MIN_FONT_SIZE,
    TEXT_WIDTH,
    fill_page,
    find_figure,
    find_ink,
    find_page,
    fit_words,
    measure_lines,
    measure_words,
    open_axes,
    scale_font,
)
from galfig.metrics import Accuracy, count_confusions
from galfig.store.reader import Store
from galfig.store.selection import Selection, require_labels

# Smallest cell that holds a count and a percentage, and smallest distance of two names [inch].
MIN_CELL, MIN_NAME = 0.3, 0.12
# Longest line of a name that stands upright [inch].
UPRIGHT = 1.0
# What names of two lines need beside the cells [inch].
NAMES = 0.25
# With more classes, the alternative text gives a summary, not every cell.
MAX_SPELLED = 12


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
        Symbol of the quantity for the axis labels: "Z" gives *Predicted Z* and *True Z*. In it,
        ``$...$`` is mathematics.
    width : float, optional
        Width of the figure [inch]. The default grows with the number of classes, to one column
        and, for more than 8 classes, to two.
    ax : Axes, optional
        Axes to draw on; a new figure by default.
    cmap : str, optional
        Colour map of the fractions; it should be light at zero. Default "Blues".

    Returns
    -------
    Figure
    """
    n_classes = len(class_names)
    widest = COLUMN_WIDTH if n_classes <= 8 else TEXT_WIDTH
    side = width or min(widest, 1.6 + 0.6 * n_classes)
    with open_axes(ax, fill_page(width, (side, side * 0.92))) as axes:
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
    """Shade each cell by its fraction of the row, and write the count and the percentage.

    The row of a true class without a galaxy has no fractions, and is hatched. Where the cells are
    too small for text, a colour bar gives the fraction, and only every second, fifth, tenth, ...
    class is named.
    """
    n_classes = len(class_names)
    shares = _divide_rows(counts)
    image = ax.imshow(np.ma.masked_invalid(shares), cmap=cmap or "Blues", vmin=0, vmax=1)
    for row in np.flatnonzero(~counts.any(axis=1)):
        hatched = Rectangle((-0.5, row - 0.5), n_classes, 1, fill=False, hatch="////")
        hatched.set(edgecolor=find_ink(0.7), linewidth=0)
        ax.add_patch(hatched)
    # Approximate width that the axis labels leave; cells are square [inch].
    tallest = ax.bbox.height * (1.1 if find_page() is None else 1.0)
    room = 0.75 * min(ax.bbox.width, tallest) / ax.figure.dpi / 0.775
    if has_words(n_classes, room):
        _write_counts(counts, shares, ax, 7 if room / n_classes > 0.4 else MIN_FONT_SIZE)
    else:
        bar = find_figure(ax).colorbar(image, ax=ax, shrink=0.8)
        bar.set_label("Share of the true class")
    steps = (step * 10**power for power in range(4) for step in (1, 2, 5))
    step = next(step for step in steps if step * room / n_classes >= MIN_NAME or step > n_classes)
    ticks = range(0, n_classes, step)
    names, size, is_level = _fit_names([class_names[tick] for tick in ticks], room)
    style: dict[str, Any] = {"parse_math": False, "fontsize": size, "multialignment": "center"}
    ax.set_xticks(ticks, names, rotation=0 if is_level else 90, **style)
    ax.set_yticks(ticks, names, rotation=90 if is_level else 0, va="center", **style)
    ax.tick_params(length=0 if step == 1 else 2)
    ax.set_xlabel(fit_label(f"Predicted {symbol}".strip(), room, scale_font(8)))
    ax.set_ylabel(fit_label(f"True {symbol}".strip(), room, scale_font(8)))
    return image


def _fit_names(names: Sequence[str], room: float) -> tuple[list[str], float, bool]:
    """Return names in lines, their font size [pt], and whether those of columns are level.

    They share a room [inch], of which long ones leave less to the cells. Upright names of
    neighbours would run into each other.
    """
    left = room
    for _ in range(MAX_LINES):
        space, size = left / len(names), scale_font(7)
        is_level = space >= 0.5 or max(map(len, names)) <= 2
        # Level names have room below them.
        width, n_lines = 0.92 * space, 2 * MAX_LINES
        if not is_level:
            # Their lines stand side by side between two ticks.
            n_lines = max(1, min(MAX_LINES, int(space / measure_lines("", MIN_FONT_SIZE))))
            width = UPRIGHT
            size = min(size, max(MIN_FONT_SIZE, size * space / measure_lines("", size)))
        fitted = [fit_words(name, width, size, n_lines=n_lines) for name in names]
        size = min(found for _, found in fitted)
        words = [found for found, _ in fitted]
        lines = [line for name in words for line in name.split("\n")]
        extent = max(measure_words(line, size) for line in lines)
        if is_level:
            extent = max(measure_lines(name, size) for name in words)
        taken = max(0.0, extent - NAMES)
        if room - taken >= left - 0.01:
            break
        left = max(room - taken, 0.3 * room)
    return words, size, is_level


def _divide_rows(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the fraction of each cell of its row; NaN in a row without galaxies."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)


def has_words(n_classes: int, room: float) -> bool:
    """Tell whether cells that share a width [inch] are large enough for their numbers."""
    return room / n_classes >= MIN_CELL


def _write_counts(
    counts: NDArray[np.int64], shares: NDArray[np.float64], ax: Axes, size: float
) -> None:
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        is_known = np.isfinite(share)
        ax.text(
            column,
            row,
            f"{count}\n{100 * share:.0f}%" if is_known else "0",
            ha="center",
            va="center",
            color="white" if share > 0.6 else "black",
            fontsize=size,
            parse_math=False,
            # A number would be hard to read on the hatching.
            bbox=None if is_known else {"facecolor": "white", "linewidth": 0, "pad": 1},
        )


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the confusion matrix of the galaxies of a selection."""
    require_labels(store, "a confusion matrix")
    chosen = selection.indices[store.label[selection.indices] >= 0]
    counts = count_confusions(
        store.label[chosen].astype(np.intp), store.predicted[chosen], len(store.class_names)
    )
    score = store.score(chosen)
    if score is None:
        raise FigureError(
            f"{store.path}: none of these galaxies has a true class, expected some to count"
        )
    classes = store.settings.classes
    # A label is of this figure, and a symbol of the store; neither classes nor names have a unit.
    symbol = strip_unit(store.labels.get(classes.column, "")) or escape_label(
        classes.symbol or classes.name
    )
    fig = make_confusion_matrix(
        counts, store.class_names, symbol, options.width, ax=options.ax, cmap=options.cmap
    )
    axes = options.ax or fig.axes[0]
    describe = partial(
        _describe,
        store,
        selection,
        score,
        absent=[n for n, row in zip(name_classes(store), counts, strict=True) if not row.any()],
        has_counts=bool(axes.texts),
        n_named=len(axes.get_xticks()),
    )
    return Drawing(
        "confusion-matrix",
        "Confusion matrix",
        (fig,),
        describe,
        f"Confusion matrix of {count_noun(int(counts.sum()))}, with true classes as rows and "
        f"predicted classes as columns, {_spell_rows(counts, store.class_names)}.",
        partial(_tabulate, counts, store.class_names),
    )


def _spell_rows(counts: NDArray[np.int64], class_names: Sequence[str]) -> str:
    if len(counts) > MAX_SPELLED:
        return f"of {len(counts)} classes; {np.trace(counts)} galaxies lie on the diagonal"
    rows = "; ".join(" ".join(map(str, row)) for row in counts)
    return f"in the order {', '.join(class_names)}: {rows}"


def _tabulate(counts: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, Column]:
    names = np.array(class_names)
    true, predicted = np.indices(counts.shape).reshape(2, -1)
    return {
        "true": Column(names[true], "true class"),
        "predicted": Column(names[predicted], "predicted class"),
        "n": Column(counts.ravel(), "galaxies"),
        "share": Column(
            _divide_rows(counts).ravel(), "share of the true class, NaN of one without galaxies"
        ),
    }


def _describe_absent(absent: Sequence[str], markup: Markup) -> str:
    """Say which true classes have no galaxy; "" if none."""
    if not absent:
        return ""
    names = list_names([markup.text(name) for name in absent], "or")
    rows = "its row is" if len(absent) == 1 else "their rows are"
    return f"No galaxy is of true class {names}: {rows} hatched, since no share is defined."


def _describe(
    store: Store,
    selection: Selection,
    score: Accuracy,
    markup: Markup,
    *,
    absent: Sequence[str],
    has_counts: bool,
    n_named: int,
) -> str:
    cells = (
        "Each cell gives the number of galaxies and their share of the true class; the shade shows "
        "the same share."
        if has_counts
        else "The shade of each cell shows the share of the true class"
        f"{'.' if n_named == len(store.class_names) else '; not every class is named.'}"
    )
    choice = describe_choice(store, selection)
    accuracy = f"The network classifies {describe_accuracy(score, name_classes(store), markup)}."
    return join_lines(
        f"Confusion matrix of {describe_sample(store, selection, markup)}.",
        describe_omitted(store, selection, needs_label=True),
        cells,
        _describe_absent(absent, markup),
        choice or accuracy,
        describe_training(store, markup, with_accuracy=bool(choice)),
    )
