"""Stacked maps: the mean map of each class, by true and predicted class."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.errors import FigureError
from galfig.figures.captions import (
    Markup,
    describe_maps,
    describe_sample,
    describe_training,
    name_classes,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.rows import MapLabel, Row, make_rows
from galfig.store.reader import Store
from galfig.store.selection import Selection, require_labels

# More rows than this do not fit on a page.
MAX_ROWS = 6


@dataclass(frozen=True)
class Stack:
    """The mean of the galaxies of one true and one predicted class.

    Attributes
    ----------
    true, predicted : int
        The classes.
    n : int
        Galaxies.
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
    """Average cutouts and signed maps by true and predicted class, galaxy by galaxy.

    The galaxies are centred as their cutouts are; nothing is turned or scaled. Memory does not
    grow with their number.

    Parameters
    ----------
    store : Store
        An open store.
    indices : (n,) ndarray of int
        Galaxies with a true class.

    Returns
    -------
    list of Stack
        Of each pair of classes that has galaxies.
    """
    stacks = []
    n_classes = len(store.class_names)
    for true in range(n_classes):
        for predicted in range(n_classes):
            is_meant = (store.label[indices] == true) & (store.predicted[indices] == predicted)
            members = indices[is_meant]
            if not len(members):
                continue
            cutout = np.zeros(store.cutouts(0).shape)
            cams = np.zeros((n_classes, *store.map_shape))
            for index in np.sort(members):
                cutout += store.cutouts(int(index))
                cams += store.cams(int(index))
            n = len(members)
            stacks.append(Stack(true, predicted, n, cutout / n, cams / n))
    return stacks


def make_stacked_maps(
    stacks: Sequence[Stack],
    class_names: Sequence[str],
    pixel_scale: float = float("nan"),
    width: float | None = None,
    cmap: str | None = None,
) -> Figure:
    """Draw a row for each stack: mean cutout, then the mean map of each class."""
    return make_rows(
        [
            Row(
                title=f"{class_names[stack.true]}, N = {stack.n}",
                cutout=np.clip(np.rint(stack.cutout), 0, 255).astype(np.uint8),
                cams=stack.cams.astype(np.float32),
                labels=[
                    MapLabel(name, is_bold=c == stack.predicted)
                    for c, name in enumerate(class_names)
                ],
                pixel_scale=pixel_scale,
            )
            for stack in stacks
        ],
        width,
        cmap=cmap,
    )


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the stacks of the galaxies of a selection."""
    require_labels(store, "stacked maps")
    labelled = selection.indices[store.label[selection.indices] >= 0]
    stacks = stack_maps(store, labelled)
    if len(stacks) > MAX_ROWS:
        # With many classes the confusions are many and small: the right ones are kept.
        stacks = [stack for stack in stacks if stack.true == stack.predicted][:MAX_ROWS]
    if not stacks:
        raise FigureError(f"{store.path}: no galaxy with a true class is selected, expected some")
    scales = np.unique(store.pixel_scale[labelled])
    scale = float(scales[0]) if len(scales) == 1 else float("nan")
    return Drawing(
        "stacked-maps",
        "Mean maps by true and predicted class",
        (make_stacked_maps(stacks, name_classes(store), scale, options.width, options.cmap),),
        partial(_describe, store, selection, stacks),
        f"Rows of panels, one for each of {len(stacks)} pairs of true and predicted class: the "
        f"mean cutout, then the mean maps of {' and '.join(name_classes(store))}.",
        partial(_tabulate, store, stacks),
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
                f"{word} of the mean map of {name} [logit]",
            )
    return columns


def _describe(store: Store, selection: Selection, stacks: list[Stack], markup: Markup) -> str:
    names = [markup.text(name) for name in name_classes(store)]
    groups = "; ".join(
        f"{names[stack.true]} classified as {names[stack.predicted]}: {stack.n}" for stack in stacks
    )
    return (
        f"Mean Grad-CAM maps of {describe_sample(store, selection, markup)}, by true and "
        "predicted class.\n"
        "Each row shows the mean cutout, headed by the true class, and the mean signed map of each "
        "class; the name of the predicted class is in bold. Cutouts are stacked as they are, "
        "neither rotated nor rescaled.\n"
        f"Number of galaxies, from top to bottom: {groups}.\n"
        f"{describe_maps(store, markup)}\n" + describe_training(store, markup)
    )
