"""Feature space: galaxies where the network sees them, as points or as cutouts."""

import importlib.util
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from galfig.components import find_components
from galfig.errors import FigureError
from galfig.figures.captions import (
    Markup,
    count_noun,
    describe_channels,
    describe_omitted,
    describe_sample,
    describe_training,
    join_lines,
    list_names,
    list_words,
    name_classes,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions, name_galaxies
from galfig.figures.style import (
    TEXT_WIDTH,
    chart_size,
    escape_math,
    fill_page,
    find_figure,
    find_ground,
    find_ink,
    find_page,
    list_curve_colors,
    open_axes,
    paper_style,
    plot_legend,
    scale_font,
    wrap_words,
)
from galfig.runtime.options import Projection
from galfig.store.reader import Store
from galfig.store.selection import Selection

N_COMPONENTS = 3
# Neighbours that UMAP keeps near each other, and how near (its own defaults).
N_NEIGHBORS, MIN_DIST = 15, 0.1
MARKERS = ("o", "s", "^", "D", "v", "P")
# More classes than this can be told apart by neither colour nor marker.
MAX_CLASSES = 2 * len(MARKERS)
# Side of a cutout on the page, the part of its cell that it fills, and margins [inch].
SIDE, FILLING = 0.5, 0.86
LEFT, RIGHT, BOTTOM, TOP = 0.5, 0.06, 0.42, 0.1
# Height of a line of a legend [inch].
ROW = 0.15
# Galaxies that are classified as another class: their points, and their frames.
OPEN = {"marker": "o", "markerfacecolor": "none", "markersize": 4, "markeredgewidth": 0.7}
DASHES = (0, (2, 1.2))


class Space(NamedTuple):
    """Galaxies in a space of few dimensions.

    Attributes
    ----------
    positions : (n, d) ndarray of float64
        Where they are; the first two dimensions are drawn.
    shares : (d,) ndarray of float64
        Fraction of the variance of the features along each; empty where it is not known.
    names : (str, str)
        Labels of the axes.
    """

    positions: NDArray[np.float64]
    shares: NDArray[np.float64]
    names: tuple[str, str]


class Marks(NamedTuple):
    """How galaxies are marked.

    Attributes
    ----------
    group : (n,) ndarray of int
        Class of each galaxy; -1 where it is unknown.
    is_wrong : (n,) ndarray of bool
        Whether the network takes it for another class.
    p : (n,) ndarray of float
        Probability of the predicted class.
    names : sequence of str
        Name of each class, (C,).
    """

    group: NDArray[np.intp]
    is_wrong: NDArray[np.bool_]
    p: NDArray[np.float64]
    names: Sequence[str]

    def take(self, rows: NDArray[np.intp]) -> "Marks":
        """Return the marks of some of the galaxies."""
        return Marks(self.group[rows], self.is_wrong[rows], self.p[rows], self.names)


def project(features: NDArray[np.float32], method: Projection, seed: int) -> Space:
    """Project features to two or three dimensions.

    Parameters
    ----------
    features : (n, K) ndarray of float32
        The features.
    method : {"pca", "umap"}
        Principal components, whitened; or UMAP, which needs umap-learn.
    seed : int
        Seed of UMAP.

    Returns
    -------
    Space

    Raises
    ------
    FigureError
        If the features span less than a plane, or umap-learn is not installed.
    """
    n_galaxies = len(features)
    components = find_components(features, N_COMPONENTS)
    if len(components.shares) < 2:
        raise FigureError(
            f"features of {count_noun(n_galaxies)} that span {len(components.shares)} dimensions, "
            "expected two or more; choose more galaxies, or another layer"
        )
    if method == "pca":
        first, second = (
            f"Component {number} ({100 * share:.3g} % of the variance)"
            for number, share in enumerate(components.shares[:2], 1)
        )
        return Space(*components, (first, second))
    if importlib.util.find_spec("umap") is None:
        raise FigureError(
            '`projection="umap"` needs umap-learn, which is not installed; pip install '
            "'galfig[umap]'"
        )
    if n_galaxies < N_NEIGHBORS:
        raise FigureError(
            f'`projection="umap"`: {n_galaxies} galaxies, expected {N_NEIGHBORS} or more'
        )
    from umap import UMAP

    # One thread, since the order of its threads would be left to chance.
    options: dict[str, Any] = {"n_neighbors": N_NEIGHBORS, "min_dist": MIN_DIST, "n_jobs": 1}
    found = UMAP(n_components=2, random_state=seed, **options).fit_transform(features)
    return Space(np.asarray(found, np.float64), np.empty(0), ("UMAP 1", "UMAP 2"))


def make_feature_space(
    space: Space, marks: Marks, width: float | None = None, ax: Axes | None = None
) -> Figure:
    """Draw galaxies as points.

    Parameters
    ----------
    space : Space
        Where they are.
    marks : Marks
        How they are marked.
    width : float, optional
        Width of the figure [inch]; default one column.
    ax : Axes, optional
        Axes to draw on; a new figure by default.

    Returns
    -------
    Figure
    """
    with paper_style() if ax is None else nullcontext():
        words, factor = [word for word, _ in _list_point_entries(marks)], scale_font(8) / 8
        inches, height = chart_size(width, 0.85)
        # Legend and label are above and below the middle of the axes.
        across = inches - LEFT * factor
        above = ROW * factor * -(-len(words) // _count_columns(words, across))
        if ax is None and find_page() is None:
            height += above
        with open_axes(ax, (inches, height)) as axes:
            room = None if ax is not None else (across, height - above - BOTTOM * factor)
            plot_points(space.positions, marks, ax=axes, room=room and room[0])
            _label_axes(space, axes, room)
            fig, legend = find_figure(axes), axes.get_legend()
            if ax is None and find_page() is None and legend is not None:
                # Long names take more lines than one for each entry.
                taken = legend.get_window_extent().height / fig.dpi
                fig.set_figheight(height + max(0.0, taken - above))
            return fig


def plot_points(
    positions: NDArray[np.float64], marks: Marks, *, ax: Axes, room: float | None = None
) -> None:
    """Draw galaxies as points by class, open where they are classified as another one.

    The area of a point grows with the probability of the predicted class. The legend above the axes
    has a width of ``room`` [inch]; by default, that of the axes.
    """
    areas = _find_areas(marks, marks.p)
    for group, look in _list_looks(marks):
        for is_wrong in (False, True):
            rows = np.flatnonzero((marks.group == group) & (marks.is_wrong == is_wrong))
            ax.scatter(
                positions[rows, 0],
                positions[rows, 1],
                areas[rows],
                marker=look["marker"],
                facecolors="none" if is_wrong else look["color"],
                edgecolors=look["color"],
                linewidths=0.7 if is_wrong else 0.0,
                alpha=0.8,
                zorder=3 if is_wrong else 2,
                rasterized=True,
            )
    _plot_legend(_list_point_entries(marks), ax, room)


def _find_areas(marks: Marks, p: ArrayLike) -> NDArray[np.float64]:
    """Return the area of points [pt²] of some probabilities: from that of a guess to 1."""
    least = 1 / max(2, len(marks.names))
    # Thousands of points would cover each other.
    largest = float(np.clip(4000 / len(marks.p), 5, 26)) * scale_font(8) / 8
    areas: NDArray[np.float64] = 0.2 + 0.8 * (np.asarray(p, np.float64) - least) / (1 - least)
    return largest * areas


def _list_point_entries(marks: Marks) -> list[tuple[str, dict[str, Any]]]:
    """Return the entries of the legend of points: those of their marks, and two probabilities."""
    entries = _list_entries(marks)
    for p in (1 / max(2, len(marks.names)), 1.0):
        # A marker is as wide as the root of the area of a point.
        sample = {"marker": "o", "markersize": float(_find_areas(marks, p)) ** 0.5}
        entries.append((f"p = {p:.2g}", {**sample, "color": find_ink(0.5), "markeredgewidth": 0}))
    return entries


def _list_looks(marks: Marks) -> list[tuple[int, dict[str, Any]]]:
    """Return the colour and the marker of each class that has galaxies; grey where unknown."""
    colors = list_curve_colors()
    looks: list[tuple[int, dict[str, Any]]] = []
    for group in np.unique(marks.group).tolist():
        if group < 0:
            look = {"color": find_ink(0.55), "marker": "X"}
        elif len(marks.names) > MAX_CLASSES:
            look = {"color": colors[0], "marker": MARKERS[0]}
        else:
            shift = group // len(MARKERS)
            look = {
                "color": colors[group % len(colors)],
                "marker": MARKERS[(group + shift) % len(MARKERS)],
            }
        looks.append((group, look))
    return looks


def _list_entries(
    marks: Marks, *, wrong: Mapping[str, Any] = OPEN
) -> list[tuple[str, dict[str, Any]]]:
    """Return the entries of a legend, words and look: classes, and those that are misclassified."""
    looks = _list_looks(marks) if len(marks.names) <= MAX_CLASSES else []
    entries: list[tuple[str, dict[str, Any]]] = []
    for group, look in looks:
        name = "class unknown" if group < 0 else marks.names[group]
        entries.append((f"{name} ({int(np.sum(marks.group == group))})", {"markersize": 4, **look}))
    if n_wrong := int(np.sum(marks.is_wrong)):
        entries.append((f"misclassified ({n_wrong})", {"color": find_ink(0.3), **wrong}))
    return entries


def _count_columns(words: Sequence[str], room: float) -> int:
    """Return how many entries of a legend stand side by side in a width [inch]."""
    # A character is about 0.55 of the font size wide, and a sample 0.3 inch.
    widest = (0.3 + max(map(len, words)) * 0.55 * 7 / 72) * scale_font(8) / 8
    return int(np.clip(room / widest, 1, min(4, len(words))))


def _plot_legend(
    entries: Sequence[tuple[str, dict[str, Any]]], ax: Axes, room: float | None = None
) -> None:
    """Draw a legend above the axes, where it covers no galaxy."""
    handles = [ax.plot([], [], **{"linestyle": "", **look})[0] for _, look in entries]
    words = [word for word, _ in entries]
    if words:
        plot_legend(
            handles,
            words,
            ax=ax,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=_count_columns(words, room or float(_measure_axes(ax)[0])),
            frameon=False,
            borderaxespad=0.2,
            columnspacing=1.0,
            handletextpad=0.3,
        )


def _measure_axes(ax: Axes) -> NDArray[np.float64]:
    """Return the width and the height of axes [inch]."""
    extent = ax.get_window_extent()
    return np.array([extent.width, extent.height]) / find_figure(ax).dpi


def _label_axes(space: Space, ax: Axes, room: tuple[float, float] | None = None) -> None:
    """Label the axes, in as many lines as fit a width and a height [inch]; by default, of them."""
    width, height = room or _measure_axes(ax)
    # `wrap_words` takes a character for wider than those of these words are.
    size = 0.9 * scale_font(8)
    ax.set_xlabel(wrap_words(escape_math(space.names[0]), width, size))
    ax.set_ylabel(wrap_words(escape_math(space.names[1]), height, size))


class Cells(NamedTuple):
    """Galaxies that are shown as cutouts, each in a cell of a grid over the space.

    Attributes
    ----------
    rows : (m,) ndarray of int
        Which of the galaxies.
    columns, lines : (m,) ndarray of int
        Cell of each, from the left and from the bottom.
    shape : (int, int)
        Number of columns and of lines of the grid.
    low, high : (2,) ndarray of float64
        Corners of the grid in the space.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    lines: NDArray[np.intp]
    shape: tuple[int, int]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def choose_cells(positions: NDArray[np.float64], shape: tuple[int, int]) -> Cells:
    """Choose the galaxy nearest to the centre of each cell of a grid that has any.

    Parameters
    ----------
    positions : (n, 2) ndarray of float64
        Where the galaxies are.
    shape : (int, int)
        Number of columns and of lines of the grid, which reaches as far as the galaxies.

    Returns
    -------
    Cells
        From the bottom left to the top right.
    """
    low, high = positions.min(axis=0), positions.max(axis=0)
    extent = np.where(high > low, high - low, 1.0)
    within = (positions - low) / extent * shape
    cells = np.minimum(within.astype(np.intp), np.array(shape) - 1)
    distances = np.square(within - cells - 0.5).sum(axis=1)
    numbers = cells[:, 1] * shape[0] + cells[:, 0]
    # Of each cell, the first in the order of distance.
    order = np.lexsort((distances, numbers))
    _, first = np.unique(numbers[order], return_index=True)
    rows = order[first]
    return Cells(rows, cells[rows, 0], cells[rows, 1], shape, low, low + extent)


def make_cutout_space(
    store: Store,
    indices: NDArray[np.intp],
    space: Space,
    marks: Marks,
    width: float | None = None,
    ax: Axes | None = None,
) -> tuple[Figure, Cells]:
    """Draw galaxies as cutouts, without overlaps, each framed by its class.

    Parameters
    ----------
    store : Store
        An open store.
    indices : (n,) ndarray of int
        Positions of the galaxies in it.
    space : Space
        Where they are.
    marks : Marks
        How they are marked.
    width : float, optional
        Width of the figure [inch]; default 7.1.
    ax : Axes, optional
        Axes to draw on; a new figure by default.

    Returns
    -------
    fig : Figure
        The figure.
    cells : Cells
        The galaxies that it shows.
    """
    if ax is None:
        with paper_style():
            ax = _open_page(width, [word for word, _ in _list_entries(marks)])
            return make_cutout_space(store, indices, space, marks, width, ax)
    inches, side = _measure_axes(ax), _find_side()
    shape = (max(1, round(inches[0] / side)), max(1, round(inches[1] / side)))
    cells = choose_cells(space.positions[:, :2], shape)
    shown = marks.take(cells.rows)
    cutouts = [store.cutouts(int(indices[row])) for row in cells.rows]
    plot_cutouts(cutouts, cells, shown, ax=ax)
    _label_axes(space, ax)
    return find_figure(ax), cells


def _find_side() -> float:
    """Return the approximate side of a cell [inch]: larger in a style of larger type."""
    return SIDE * scale_font(8) / 8


def _open_page(width: float | None, legend: Sequence[str]) -> Axes:
    """Open a figure with axes whose size is a whole number of square cells, below a legend."""
    factor = scale_font(8) / 8
    own = (width or TEXT_WIDTH, 0.75 * (width or TEXT_WIDTH))
    page = fill_page(width, own)
    left, right, bottom = (factor * margin for margin in (LEFT, RIGHT, BOTTOM))
    n_rows = -(-len(legend) // _count_columns(legend, page[0] - left - right)) if legend else 0
    top = factor * (TOP + ROW * n_rows)
    n_columns = max(1, round((page[0] - left - right) / _find_side()))
    side = (page[0] - left - right) / n_columns
    n_lines = max(1, int((page[1] - bottom - top) / side))
    height = n_lines * side + bottom + top if page == own else page[1]
    fig = Figure(figsize=(page[0], height))
    return fig.add_axes(
        (
            left / page[0],
            bottom / height,
            n_columns * side / page[0],
            n_lines * side / height,
        )
    )


def plot_cutouts(
    cutouts: Sequence[NDArray[np.uint8]], cells: Cells, marks: Marks, *, ax: Axes
) -> None:
    """Draw cutouts in the cells of a grid, framed by the colour and the marker of their class.

    A frame is dashed where the network takes the galaxy for another class.
    """
    looks = dict(_list_looks(marks))
    shape = np.array(cells.shape)
    step, inches = (cells.high - cells.low) / shape, _measure_axes(ax) / shape
    half = step * FILLING * inches.min() / inches / 2
    for number, cutout in enumerate(cutouts):
        place = np.array([cells.columns[number], cells.lines[number]])
        x, y = cells.low + (place + 0.5) * step
        extent = (x - half[0], x + half[0], y - half[1], y + half[1])
        ax.imshow(cutout, extent=extent, aspect="auto", interpolation="nearest", zorder=1)
        look = looks[int(marks.group[number])]
        frame = Rectangle((extent[0], extent[2]), *(2 * half), fill=False, zorder=2)
        frame.set(edgecolor=look["color"], linewidth=1.4)
        if marks.is_wrong[number]:
            frame.set_linestyle(DASHES)
        ax.add_patch(frame)
        style: dict[str, Any] = {**look, "markeredgecolor": find_ground(), "clip_on": False}
        ax.plot(extent[0], extent[3], markersize=4.5, markeredgewidth=0.5, zorder=3, **style)
    # An image changes the limits.
    ax.set_xlim(cells.low[0], cells.high[0])
    ax.set_ylim(cells.low[1], cells.high[1])
    _plot_legend(_list_entries(marks, wrong={"linestyle": DASHES, "linewidth": 1.4}), ax)


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the galaxies of a selection in the space of their features."""
    indices, method = selection.indices, options.projection or "pca"
    if not store.has_features:
        raise FigureError(
            f"{store.path}: holds no features, expected those of the layer explained; build it "
            "with `features=True`, or name its network with `model`"
        )
    space = project(store.features(indices), method, selection.query.seed)
    marks = _mark(store, indices)
    cells = None
    if options.cutouts:
        made = make_cutout_space(store, indices, space, marks, options.width, options.ax)
        figure, cells = made
    else:
        figure = make_feature_space(space, marks, options.width, options.ax)
    n_shown = len(indices) if cells is None else len(cells.rows)
    plane = "the first two principal components" if method == "pca" else "UMAP"
    what = "points" if cells is None else f"{n_shown} cutouts, framed"
    return Drawing(
        "feature-space",
        "Feature space",
        (figure,),
        partial(_describe, store, selection, space, marks, cells, method),
        f"{count_noun(len(indices))} as {what} by {_name_kind(store)} class, in the plane of "
        f"{plane} of the network's features: {list_names(_count_groups(marks))}.",
        partial(_tabulate, store, indices, space, cells),
        galaxies=() if cells is None else name_galaxies(store, indices[cells.rows]),
    )


def _mark(store: Store, indices: NDArray[np.intp]) -> Marks:
    """Mark galaxies by true class; by that which the network predicts, where none is known."""
    label, predicted = store.label[indices].astype(np.intp), store.predicted[indices]
    p = store.probs[indices].max(axis=1)
    if (label < 0).all():
        return Marks(predicted, np.zeros(len(label), bool), p, name_classes(store))
    return Marks(label, (label >= 0) & (predicted != label), p, name_classes(store))


def _name_kind(store: Store) -> str:
    return "true" if np.any(store.label >= 0) else "predicted"


def _count_groups(marks: Marks) -> list[str]:
    """Count the galaxies of each class in words: '58 low-metallicity'."""
    return [
        f"{int(np.sum(marks.group == group))} "
        + ("of unknown class" if group < 0 else marks.names[group])
        for group in np.unique(marks.group)
    ]


def _tabulate(
    store: Store, indices: NDArray[np.intp], space: Space, cells: Cells | None
) -> dict[str, Column]:
    names = np.array([*store.class_names, ""])
    columns = {
        "objid": Column(store.objids(indices).astype(str), "identifier, as in the catalog"),
        "true": Column(names[store.label[indices]], "true class, empty where unknown"),
        "predicted": Column(names[store.predicted[indices]], "class of largest probability"),
        "p": Column(store.probs[indices].max(axis=1), "probability of the predicted class"),
    }
    for number, values in enumerate(space.positions.T, 1):
        if len(space.shares):
            words = (
                f"whitened score of component {number} of the features, which holds "
                f"{space.shares[number - 1]:.6f} of their variance"
            )
            columns[f"component_{number}"] = Column(values, words)
        else:
            columns[f"umap_{number}"] = Column(values, f"coordinate {number} of UMAP")
    if cells is not None:
        is_shown = np.zeros(len(indices), bool)
        is_shown[cells.rows] = True
        columns["shown"] = Column(is_shown, "whether its cutout is shown")
    return columns


def _describe(
    store: Store,
    selection: Selection,
    space: Space,
    marks: Marks,
    cells: Cells | None,
    method: Projection,
    markup: Markup,
) -> str:
    n_features = store.features(int(selection.indices[0])).size
    layer = markup.text(store.record.target_layer)
    sides = f" of each of {store.n_networks} networks, side by side" * (store.n_networks > 1)
    turned = " and over the eight orientations of its image" * store.settings.maps.tta
    return join_lines(
        f"Feature space: {describe_sample(store, selection, markup)}.",
        describe_omitted(store, selection, "shown"),
        f"The {n_features} features of a galaxy are the activations of layer {layer}{sides}, "
        f"averaged over its pixels{turned}.",
        _describe_plane(space, method, selection.query.seed, markup),
        _describe_marks(store, marks, cells, markup),
        "That galaxies lie close together says that the network responds to them alike, and not "
        "that they are physically alike; and classes lie apart because it was trained to tell "
        "them apart.",
        describe_channels(store, markup) if cells is not None else "",
        describe_training(store, markup),
    )


def _describe_plane(space: Space, method: Projection, seed: int, markup: Markup) -> str:
    if method == "umap":
        return (
            "The plane is that of UMAP (McInnes et al. 2018) for Euclidean distances between "
            f"features, with {N_NEIGHBORS} neighbours, a least distance of {MIN_DIST:g} and the "
            f"seed {seed}. Its axes have no unit, and neither distances between groups nor their "
            "sizes and densities mean anything."
        )
    shares = [f"{100 * share:.3g}{markup.percent}" for share in space.shares]
    total = f"{100 * space.shares.sum():.3g}{markup.percent}"
    words = f"The first {len(shares)} components hold {list_words(shares)} of the variance"
    return (
        f"The axes are the first two principal components, fitted to the features of these "
        f"galaxies. {words}, {total} together. Each is whitened (mean 0, standard deviation 1), "
        "so that equal lengths along the two axes are not equal distances between features; its "
        "direction has no meaning of its own, nor has its sign."
    )


def _describe_marks(store: Store, marks: Marks, cells: Cells | None, markup: Markup) -> str:
    kind = _name_kind(store)
    is_told = len(marks.names) <= MAX_CLASSES
    wrong = int(np.sum(marks.is_wrong))
    unknown = int(np.sum(marks.group < 0))
    if cells is None:
        words = (
            f"Colour and marker are the {kind} class" if is_told else "Classes are not told apart"
        )
        sentences = [
            f"{words}; the area of a point grows with the probability p of the predicted class."
        ]
        mark = "Open points are"
    else:
        n_shown, n = len(cells.rows), len(marks.group)
        sentences = [
            f"The plane is divided into {markup.times(*cells.shape)} cells; in the middle of each "
            "that holds any galaxies stands the cutout of the one nearest to its centre "
            f"({n_shown} of {n})."
        ]
        if is_told:
            sentences.append(f"The colour of the frame and its marker are the {kind} class.")
        mark = "Dashed frames are of"
        wrong = int(np.sum(marks.is_wrong[cells.rows]))
        unknown = int(np.sum(marks.group[cells.rows] < 0))
    if wrong:
        sentences.append(f"{mark} {count_noun(wrong)} that the network takes for another class.")
    if unknown:
        sentences.append(f"Of {unknown}, the true class is not known (grey).")
    return " ".join(sentences)
