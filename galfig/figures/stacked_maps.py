"""Stacked maps: mean cutouts and maps, by true and predicted class."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.config import DEFAULT_STYLE, StyleSettings
from galfig.errors import FigureError
from galfig.figures.captions import (
    PLAIN,
    Markup,
    count_rows,
    describe_channels,
    describe_maps,
    describe_omitted,
    describe_sample,
    describe_training,
    join_lines,
    list_classes,
    list_letters,
    mark_frames,
    name_classes,
)
from galfig.figures.choice import find_classes
from galfig.figures.compass import describe_differences
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.layout import Arrangement, RowPages, make_pages, settle
from galfig.figures.methods import METHODS, MethodWords, find_words
from galfig.figures.rows import MapLabel, Row, check_panels, format_total
from galfig.figures.style import TEXT_WIDTH
from galfig.store.reader import Store
from galfig.store.selection import Selection, require_labels

# More rows than this do not fit on a page.
MAX_ROWS = 6


@dataclass(frozen=True)
class Stack:
    """Mean cutout and maps of the galaxies with one true and one predicted class.

    Attributes
    ----------
    true, predicted : int
        Indices of the classes.
    n : int
        Number of galaxies.
    cutout : (H, W, 3) ndarray of float64
        Mean cutout.
    cams : (C, h, w) ndarray of float64
        Mean signed map of each class.
    """

    true: int
    predicted: int
    n: int
    cutout: NDArray[np.float64]
    cams: NDArray[np.float64]


def stack_maps(store: Store, indices: NDArray[np.intp]) -> list[Stack]:
    """Average cutouts and signed maps by true and predicted class.

    Cutouts are averaged as they are, without recentring, rotation or scaling. The galaxies are read
    one by one in the order of the store, so that the memory does not grow with their number.

    Parameters
    ----------
    store : Store
        An open store.
    indices : (n,) ndarray of int
        Positions of galaxies that have a true class.

    Returns
    -------
    list of Stack
        One stack for each pair of classes that has galaxies. If there are more than `MAX_ROWS`
        pairs, only those of correct predictions, and of these the first `MAX_ROWS`.
    """
    n_classes = len(store.class_names)
    pair = store.label[indices].astype(np.intp) * n_classes + store.predicted[indices]
    pairs = np.unique(pair)
    if len(pairs) > MAX_ROWS:
        # With many classes, most confusions are small.
        pairs = pairs[pairs % (n_classes + 1) == 0][:MAX_ROWS]
    return [_stack_pair(store, np.sort(indices[pair == number]), number) for number in pairs]


def _stack_pair(store: Store, members: NDArray[np.intp], number: int) -> Stack:
    """Average the galaxies of one pair of true and predicted class."""
    n_classes, n = len(store.class_names), len(members)
    cutout = np.zeros(store.cutout_shape)
    cams = np.zeros((n_classes, *store.map_shape))
    for index in members:
        cutout += store.cutouts(int(index))
        cams += store.cams(int(index))
    return Stack(int(number // n_classes), int(number % n_classes), n, cutout / n, cams / n)


def make_stacked_maps(
    stacks: Sequence[Stack],
    class_names: Sequence[str],
    pixel_scale: float = float("nan"),
    width: float | None = None,
    cmap: str | None = None,
    method: MethodWords = METHODS["grad-cam"],
    style: StyleSettings = DEFAULT_STYLE,
    chosen: Sequence[int] = (),
) -> Figure:
    """Draw one row per stack: the mean cutout, then the mean map of each class.

    Parameters
    ----------
    stacks : sequence of Stack
        The stacks from top to bottom.
    class_names : sequence of str
        Name of each class, (C,).
    pixel_scale : float, optional
        Pixel scale of all cutouts [arcsec/pixel]; NaN, the default, draws no scale bar.
    width : float, optional
        Width of the figure [inch]; default 7.1.
    cmap : str, optional
        Colour map of the maps; default "inferno".
    method : MethodWords, optional
        What to call the maps; default Grad-CAM.
    style : StyleSettings, optional
        How maps lie over the mean cutouts, and which share a colour scale.
    chosen : sequence of int, optional
        Positions of the classes whose maps are shown; by default, all.

    Returns
    -------
    Figure
    """
    look = (width, cmap, method, style)
    return next(iter(_make_pages(stacks, class_names, pixel_scale, *look, chosen=chosen)))


def _make_pages(
    stacks: Sequence[Stack],
    class_names: Sequence[str],
    pixel_scale: float,
    width: float | None,
    cmap: str | None,
    method: MethodWords,
    style: StyleSettings,
    axes: NDArray[np.object_] | None = None,
    chosen: Sequence[int] = (),
) -> RowPages:
    """Arrange the rows of stacks on pages."""
    shown = list(chosen or range(len(class_names)))
    letters = list_letters(len(stacks)) if style.letters else [""] * len(stacks)
    return make_pages(
        [
            Row(
                title=f"{class_names[stack.true]}, N = {stack.n}",
                cutout=np.clip(np.rint(stack.cutout), 0, 255).astype(np.uint8),
                cams=stack.cams[shown].astype(np.float32),
                labels=[
                    MapLabel(
                        class_names[c],
                        format_total(float(stack.cams[c].sum())) if "sum" in style.annotate else "",
                        is_predicted=c == stack.predicted,
                        is_true=c == stack.true if "true" in style.annotate else None,
                    )
                    for c in shown
                ],
                pixel_scale=pixel_scale,
                letter=letter,
                method=method,
            )
            for stack, letter in zip(stacks, letters, strict=True)
        ],
        width,
        cmap=cmap,
        style=style,
        axes=axes,
    )


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the stacks of the galaxies of a selection."""
    require_labels(store, "stacked maps")
    chosen = find_classes(store, options.classes)
    # A width that does not hold the panels is refused before galaxies are read for hours.
    if options.style.layout == "rows":
        check_panels(len(chosen or store.class_names), options.width or TEXT_WIDTH)
    labelled = selection.indices[store.label[selection.indices] >= 0]
    stacks = stack_maps(store, labelled)
    if not stacks:
        raise FigureError(
            f"{store.path}: no galaxy to stack, expected galaxies with a true class and, for more "
            f"than {MAX_ROWS} pairs of classes, correct predictions"
        )
    scales = np.unique(store.pixel_scale[labelled])
    scale = float(scales[0]) if len(scales) == 1 else float("nan")
    pages = _make_pages(
        stacks,
        name_classes(store),
        scale,
        options.width,
        options.cmap,
        find_words(store.record),
        options.style,
        options.axes,
        chosen,
    )
    found = pages.arrangement
    style = settle(options.style, found)
    return Drawing(
        "stacked-maps",
        "Mean maps by true and predicted class",
        pages.figures,
        partial(_describe, store, selection, stacks, scale, style, found, chosen),
        f"{count_rows(len(stacks), 'pair', found.noun)} of true and "
        f"predicted class: the mean cutout, then the mean maps of "
        f"{list_classes(store, PLAIN, chosen)}.",
        partial(_tabulate, store, stacks),
        len(pages),
    )


def _tabulate(store: Store, stacks: list[Stack]) -> dict[str, Column]:
    names = np.array(store.class_names)
    columns = {
        "true": Column(names[[stack.true for stack in stacks]], "true class"),
        "predicted": Column(names[[stack.predicted for stack in stacks]], "predicted class"),
        "n": Column([stack.n for stack in stacks], "galaxies"),
    }
    for c, name in enumerate(names):
        for word, take in (("mean", np.mean), ("peak", np.max)):
            columns[f"{word}_{name}"] = Column(
                [float(take(stack.cams[c])) for stack in stacks],
                f"{word} of the mean map of {name} [{find_words(store.record).unit}]",
            )
    return columns


def _describe(
    store: Store,
    selection: Selection,
    stacks: list[Stack],
    scale: float,
    style: StyleSettings,
    arrangement: Arrangement,
    chosen: Sequence[int],
    markup: Markup,
) -> str:
    names = [markup.text(name) for name in name_classes(store)]
    groups = "; ".join(
        f"{names[stack.true]} classified as {names[stack.predicted]}: {stack.n}" for stack in stacks
    )
    method = find_words(store.record)
    of = f"of {list_classes(store, markup, chosen)}" if chosen else "of each class"
    n_shown, n = sum(stack.n for stack in stacks), int(np.sum(store.label[selection.indices] >= 0))
    labelled = selection.indices[store.label[selection.indices] >= 0]
    total = ""
    if "sum" in style.annotate:
        total = (
            f"{markup.sigma} is the sum of a mean map over its pixels, negative ones included, "
            f"{method.units}. "
        )
    return join_lines(
        f"Mean {method.name} maps of {describe_sample(store, selection, markup)}, by true and "
        "predicted class.",
        describe_omitted(store, selection, needs_label=True),
        f"Of the {n} galaxies with a true class, the {n_shown} of these pairs are shown: only "
        "correct predictions, since there are too many pairs of classes for a page."
        if n_shown < n
        else "",
        f"{arrangement.each} shows the mean cutout, headed by the true class and the number of "
        f"galaxies, and the mean signed map {of}; {_describe_marks(stacks, style, chosen)}. "
        f"{total}Cutouts are stacked as they are, neither rotated nor rescaled.",
        describe_differences(store, labelled),
        f"Number of galaxies, {arrangement.order[0].lower()}{arrangement.order[1:]}: {groups}.",
        describe_maps(store, markup, style),
        describe_channels(store, markup),
        "The scale bar gives the angle in arcsec." if np.isfinite(scale) else "",
        describe_training(store, markup),
    )


def _describe_marks(
    stacks: Sequence[Stack], style: StyleSettings, chosen: Sequence[int] = ()
) -> str:
    """Say how the maps of the predicted and of the true class are marked."""
    return mark_frames(
        any(
            stack.true != stack.predicted and (not chosen or stack.true in chosen)
            for stack in stacks
        ),
        is_said="true" in style.annotate,
        are_all=not chosen or all(stack.predicted in chosen for stack in stacks),
    )
