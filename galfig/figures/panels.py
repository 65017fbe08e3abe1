"""Panels: one row per galaxy, with its cutout and then its map for each class."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import compress

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.config import DEFAULT_STYLE, StyleSettings
from galfig.figures.annotations import Words, is_true, list_words, write_footing
from galfig.figures.captions import (
    PLAIN,
    Markup,
    count_rows,
    describe_choice_of_maps,
    describe_facts,
    describe_panels,
    describe_scale,
    describe_signed_scale,
    describe_training,
    join_lines,
    list_galaxies,
    name_classes,
    name_place,
    name_scale,
    order_rows,
)
from galfig.figures.choice import choose_maps, find_classes
from galfig.figures.compass import (
    Compass,
    describe_orientation,
    find_compasses,
    read_orientations,
)
from galfig.figures.cubes import iter_cubes
from galfig.figures.drawing import Drawing, DrawOptions, name_galaxies, tabulate_galaxies
from galfig.figures.layout import Arrangement, RowPages, make_pages, settle, warn_if_tall
from galfig.figures.meaning import (
    Evidence,
    choose_evidence,
    describe_evidence,
    describe_field,
    describe_networks,
    describe_signs,
    describe_sums,
    introduce_evidence,
    label_evidence,
    name_evidence,
    read_evidence,
    tabulate_evidence,
)
from galfig.figures.methods import METHODS, find_words
from galfig.figures.rows import MapLabel, Row, format_total
from galfig.figures.style import COLUMN_WIDTH
from galfig.runtime.options import MapKind
from galfig.store.reader import Store
from galfig.store.selection import Selection


def make_panels(
    store: Store,
    indices: Sequence[int] | NDArray[np.intp],
    width: float | None = None,
    cmap: str | None = None,
    *,
    chosen: Sequence[int] = (),
    map: MapKind | None = None,
    style: StyleSettings = DEFAULT_STYLE,
) -> Figure:
    """Draw one row per galaxy: its cutout, then maps of classes over the dimmed cutout.

    Parameters
    ----------
    store : Store
        An open store.
    indices : sequence of int
        Positions in the store, from top to bottom.
    width : float, optional
        Width of the figure [inch]; default 7.1, two columns of AASTeX.
    cmap : str, optional
        Colour map; default "inferno".
    chosen : sequence of int, optional
        Classes whose maps are shown; for the default, see `galfig.figures.choice.choose_maps`, or
        of evidence `galfig.figures.meaning.choose_evidence`.
    map : {"evidence"}, optional
        Show signed maps of the evidence for a class, in place of those of the store's method.
    style : StyleSettings, optional
        How maps lie over the cutouts, which share a colour scale, and whether negative values are
        drawn; of evidence they always are.

    Returns
    -------
    Figure
        See `galfig.figures.layout.make_rows`; of several pages, the first.

    Raises
    ------
    FigureError
        If the width is too small for readable panels.
    """
    pages = _make_pages(store, indices, width, cmap, chosen=chosen, map=map, style=style)
    return next(iter(pages))


def _make_pages(
    store: Store,
    indices: Sequence[int] | NDArray[np.intp],
    width: float | None,
    cmap: str | None,
    *,
    chosen: Sequence[int],
    map: MapKind | None,
    style: StyleSettings,
    axes: NDArray[np.object_] | None = None,
) -> RowPages:
    """Arrange the rows of galaxies on pages."""
    galaxies = [int(index) for index in indices]
    words = list_words(store, galaxies, style)
    compasses = find_compasses(read_orientations(store, galaxies), style)
    if map == "evidence":
        rows = [
            replace(
                make_evidence_row(
                    store, read_evidence(store, i, choose_evidence(store, i, chosen)), i, style
                ),
                **own._asdict(),
                compass=compass,
            )
            for i, own, compass in zip(galaxies, words, compasses, strict=True)
        ]
        width = width or (COLUMN_WIDTH if len(rows[0].labels) == 1 else None)
        return make_pages(rows, width, cmap=cmap, is_signed=True, style=style, axes=axes)
    rows = [
        make_row(store, i, choose_maps(store, i, chosen), own, style, compass)
        for i, own, compass in zip(galaxies, words, compasses, strict=True)
    ]
    return make_pages(rows, width, cmap=cmap, style=style, axes=axes)


def make_row(
    store: Store,
    index: int,
    class_idx: Sequence[int],
    words: Words | None = None,
    style: StyleSettings = DEFAULT_STYLE,
    compass: Compass | None = None,
) -> Row:
    """Return the row of one galaxy.

    Parameters
    ----------
    store : Store
        An open store.
    index : int
        Position of the galaxy in the store.
    class_idx : sequence of int
        Classes whose maps the row shows; that of the predicted class has a frame.
    words : Words, optional
        What stands on the cutout; by default, what the style asks for.
    style : StyleSettings, optional
        What stands on the maps.
    compass : Compass, optional
        Where arrows on the cutout point; by default, there are none.

    Returns
    -------
    Row
    """
    words = words or list_words(store, [index], style)[0]
    names = name_classes(store)
    cams = store.cams(index)[list(class_idx)]
    totals = cams.sum(axis=(1, 2), dtype=np.float64)
    return Row(
        cutout=store.cutouts(index),
        cams=cams,
        labels=[
            MapLabel(
                names[c],
                write_footing(store.probs[index, c], format_total(total), style),
                is_predicted=bool(c == store.predicted[index]),
                is_true=is_true(store, index, c, style),
            )
            for c, total in zip(class_idx, totals, strict=True)
        ],
        pixel_scale=float(store.pixel_scale[index]),
        kpc_per_arcsec=float(store.kpc_per_arcsec[index]),
        method=find_words(store.record),
        compass=compass,
        **words._asdict(),
    )


def make_evidence_row(
    store: Store, evidence: Evidence, index: int, style: StyleSettings = DEFAULT_STYLE
) -> Row:
    """Return the row of one galaxy with its evidence maps.

    Parameters
    ----------
    store : Store
        An open store.
    evidence : Evidence
        The maps.
    index : int
        Position of the galaxy in the store.
    style : StyleSettings, optional
        What stands on the maps.

    Returns
    -------
    Row
    """
    is_shown = ("p" in style.annotate, "sum" in style.annotate)
    return Row(
        title=store.objids(index),
        cutout=store.cutouts(index),
        cams=evidence.maps.astype(np.float32),
        labels=[
            MapLabel(heading, "\n".join(compress(footing.split("\n"), is_shown)), is_predicted)
            for heading, footing, is_predicted in label_evidence(store, evidence, index)
        ],
        pixel_scale=float(store.pixel_scale[index]),
        kpc_per_arcsec=float(store.kpc_per_arcsec[index]),
        method=METHODS["evidence"],
    )


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the galaxies of a selection; see `make_panels`."""
    chosen = find_classes(store, options.classes)
    is_evidence, style = options.map == "evidence", options.style
    pages = _make_pages(
        *(store, selection.indices, options.width, options.cmap),
        chosen=chosen,
        map=options.map,
        style=style,
        axes=options.axes,
    )
    warn_if_tall("panels", pages.arrangement)
    style = settle(style, pages.arrangement)
    options = replace(options, style=style)
    if is_evidence:
        return Drawing(
            "panels",
            f"Evidence maps: {', '.join(name_classes(store))}",
            pages.figures,
            partial(_describe_evidence, store, selection, chosen, options, pages.arrangement),
            _describe_evidence_alt(store, selection.indices, chosen, style),
            partial(tabulate_evidence, store, selection.indices, chosen),
            len(pages),
            galaxies=name_galaxies(store, selection.indices),
            images=partial(iter_cubes, store, selection.indices),
        )
    return Drawing(
        "panels",
        f"{find_words(store.record).title} maps: {', '.join(name_classes(store))}",
        pages.figures,
        partial(
            describe_panels,
            *(store, selection),
            chosen=chosen,
            style=style,
            arrangement=pages.arrangement,
        ),
        describe_rows_alt(store, selection.indices, chosen, style),
        partial(tabulate_galaxies, store, selection.indices),
        len(pages),
        galaxies=name_galaxies(store, selection.indices),
        images=partial(iter_cubes, store, selection.indices),
    )


def describe_rows_alt(
    store: Store, indices: NDArray[np.intp], chosen: Sequence[int], style: StyleSettings
) -> str:
    """Describe rows of panels in one sentence of alternative text."""
    is_labelled = store.label[indices] >= 0
    n_right = int(np.sum(is_labelled & (store.predicted[indices] == store.label[indices])))
    rated = f", {n_right or 'none'} of them classified correctly" if is_labelled.all() else ""
    if rated and len(indices) == 1:
        rated = f", classified {'correctly' if n_right else 'incorrectly'}"
    return (
        f"{count_rows(len(indices))}{rated}: a cutout, then "
        f"{'' if style.overlay == 'side' else 'the same cutout with '}its "
        f"{find_words(store.record).name} maps for "
        f"{describe_choice_of_maps(store, PLAIN, chosen)}, "
        f"{name_scale(style, 'diverging colour scale' if style.negative else 'colour scale')}."
    )


def _describe_evidence(
    store: Store,
    selection: Selection,
    chosen: Sequence[int],
    options: DrawOptions,
    arrangement: Arrangement,
    markup: Markup,
) -> str:
    """Write the caption of panels of evidence, one sentence or more per line."""
    indices = np.asarray(selection.indices, np.intp)
    shown = [read_evidence(store, int(i), choose_evidence(store, int(i), chosen)) for i in indices]
    colors = (" (orange)", " (blue)") if options.cmap is None else ("", "")
    style = options.style
    return join_lines(
        introduce_evidence(
            *(store, selection, shown, chosen, markup, name_place(style), style),
            each=arrangement.each,
        ),
        describe_evidence(store, markup),
        f"{describe_signs(*colors)} {describe_signed_scale(style, 'in log-odds per cell')}",
        describe_sums(store, shown, indices),
        describe_field(store, indices),
        describe_networks(store, shown, markup, are_hatched=False),
        describe_facts(store, indices, markup, style),
        f"{describe_scale(store, indices, markup)} "
        f"{describe_orientation(read_orientations(store, indices), style)}",
        list_galaxies(
            *(store, indices, markup, order_rows(selection)),
            style=style,
            arrangement=arrangement,
        ),
        describe_training(store, markup),
    )


def _describe_evidence_alt(
    store: Store, indices: NDArray[np.intp], chosen: Sequence[int], style: StyleSettings
) -> str:
    """Describe rows of panels of evidence in one sentence of alternative text."""
    return (
        f"{count_rows(len(indices))}: a cutout, then "
        f"{'' if style.overlay == 'side' else 'the same cutout with '}signed maps of the "
        f"evidence for {name_evidence(store, PLAIN, chosen)}, "
        f"{name_scale(style, 'diverging colour scale')}."
    )
