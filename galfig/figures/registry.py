"""The registry of figures: the module, the options and the defaults of each, by name."""

import dataclasses
import importlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl

from galfig.config import DEFAULT_STYLE, StyleSettings
from galfig.errors import FigureError
from galfig.figures.captions import name_classes
from galfig.figures.choice import find_classes
from galfig.figures.drawing import Drawing, DrawOptions
from galfig.figures.figure_set import write_figure_set
from galfig.figures.labels import check_labels
from galfig.figures.save import (
    check_format,
    describe_audit_provenance,
    describe_provenance,
    write_drawing,
)
from galfig.figures.style import (
    COLUMN_WIDTH,
    MAX_WIDTH,
    MIN_WIDTH,
    TEXT_WIDTH,
    fit_words,
    paper_style,
    scale_font,
)
from galfig.runtime.files import ErrorOrReplace
from galfig.runtime.messages import quote, shorten, suggest
from galfig.runtime.options import STYLED, MapKind, Projection
from galfig.store.audits import Audit, open_audit
from galfig.store.reader import Store, open_store
from galfig.store.selection import Query, Selection, rename_classes, select_galaxies
from galfig.tables.formats import check_table

Opener = Callable[[Path], Store]
"""Opens a store by its path."""

# Colour maps of matplotlib for signed maps; those beside "berlin", "managua" and "vanimo" are light
# at zero.
DIVERGING = (
    *("BrBG", "PRGn", "PiYG", "PuOr", "RdBu", "RdGy", "RdYlBu", "RdYlGn", "Spectral", "berlin"),
    *("bwr", "coolwarm", "managua", "seismic", "vanimo"),
)
# Keys of the style that rows of panels take, those of maps alone, and those of cutouts alone.
_OF_ROWS, _OF_MAPS = STYLED, ("overlay", "scale", "negative")
_OF_CUTOUTS = ("compass",)
# Means of many galaxies have no north.
_OF_MEANS = tuple(key for key in STYLED if key not in _OF_CUTOUTS)

WIDTHS = {"column": COLUMN_WIDTH, "text": TEXT_WIDTH}


@dataclass(frozen=True)
class FigureKind:
    """A kind of figure.

    Attributes
    ----------
    module : str
        Module in ``galfig.figures`` whose ``draw(store, selection, options)`` returns the
        `galfig.figures.drawing.Drawing`.
    summary : str
        What the figure shows, in one line.
    n : int or None
        Default number of galaxies; None for all.
    options : tuple of str
        Options that only some figures take: names of fields of `DrawOptions`; "cmap" for those of
        maps that are not signed, which the style's colour map is for.
    styled : tuple of str
        Keys of the style, among `galfig.runtime.options.STYLED`, that the figure takes.
    is_signed : bool
        Whether its maps are always signed, which colour maps must diverge for.
    sort : "loss" or None
        Order that the figure always uses; None to use that of the query.
    takes_axes : bool
        Whether the figure has a single axes, which the caller may supply.
    takes_panels : bool
        Whether the caller may supply an array of axes; see `galfig.figures.layout.plot_rows`.
    shows_galaxies : bool
        Whether a selection of galaxies means anything; False for the training of the network, and
        for an audit, which has its own.
    source : {"store", "audit"}
        The file that it is drawn from. The ``draw(audit, options)`` of a figure of an audit takes
        no selection.
    """

    module: str
    summary: str
    n: int | None = None
    options: tuple[str, ...] = ()
    styled: tuple[str, ...] = ("title",)
    is_signed: bool = False
    sort: Literal["loss"] | None = None
    takes_axes: bool = False
    takes_panels: bool = False
    shows_galaxies: bool = True
    source: Literal["store", "audit"] = "store"


FIGURES = {
    "panels": FigureKind(
        "panels",
        "rows of cutout and maps, as galfig render",
        n=5,
        styled=_OF_ROWS,
        options=("classes", "map", "cmap"),
        takes_panels=True,
    ),
    "evidence": FigureKind(
        "evidence",
        "cutout and signed map of the log-odds, with its error bars",
        n=5,
        styled=_OF_CUTOUTS,
        is_signed=True,
        options=("classes",),
    ),
    "histogram": FigureKind(
        "histogram", "the binned quantity, its edges and classes", takes_axes=True
    ),
    "class-examples": FigureKind(
        "class_examples", "cutouts, one row per class", styled=_OF_CUTOUTS
    ),
    "training-curves": FigureKind(
        "training_curves", "losses and metrics by epoch", shows_galaxies=False
    ),
    "learning-rate": FigureKind(
        "learning_rate",
        "curve of the learning-rate finder, and the rate chosen",
        takes_axes=True,
        shows_galaxies=False,
    ),
    "confusion-matrix": FigureKind(
        "confusion_matrix", "counts and fractions of each true class", takes_axes=True
    ),
    "roc": FigureKind("roc", "ROC curve, and its area with a 95 % interval", takes_axes=True),
    "top-losses": FigureKind(
        "top_losses",
        "the largest losses: maps of the true and the likeliest wrong class",
        n=5,
        styled=_OF_ROWS,
        options=("cmap",),
        sort="loss",
        takes_panels=True,
    ),
    "stacked-maps": FigureKind(
        "stacked_maps",
        "mean maps by true and predicted class",
        styled=_OF_MEANS,
        options=("classes", "cmap"),
        takes_panels=True,
    ),
    "radial-profile": FigureKind(
        "radial_profile",
        "mean attribution against radius, with bands of one standard error",
        options=("unit",),
        takes_axes=True,
    ),
    "reliability": FigureKind(
        "reliability",
        "how often predictions of each probability are correct",
        takes_axes=True,
    ),
    "compare": FigureKind(
        "compare",
        "the same galaxies from two stores",
        n=3,
        styled=_OF_ROWS,
        options=("other", "classes", "cmap"),
        takes_panels=True,
    ),
    "atlas": FigureKind(
        "atlas", "every galaxy, on many pages", styled=_OF_MAPS, options=("classes", "cmap")
    ),
    "feature-space": FigureKind(
        "feature_space",
        "galaxies where the network sees them: the first components of its features",
        options=("cutouts", "projection"),
        takes_axes=True,
    ),
    "audit-summary": FigureKind(
        "audit_summary",
        "every number of an audit with its interval and controls",
        shows_galaxies=False,
        source="audit",
    ),
    "audit-curves": FigureKind(
        "audit_curves",
        "deletion and insertion by the map, and by each control",
        shows_galaxies=False,
        source="audit",
    ),
    "audit-sanity": FigureKind(
        "audit_sanity",
        "what is left of the maps as layers are randomised",
        takes_axes=True,
        shows_galaxies=False,
        source="audit",
    ),
    "attribution-vs": FigureKind(
        "attribution_vs",
        "a statistic of each map against a column of the catalog",
        options=("audit", "column", "statistic"),
        takes_axes=True,
    ),
}
# Options of figures that they cannot do without, and what is named by them.
_NEEDED = {
    "other": "one store, expected two; name the second with `other`",
    "audit": "no audit, expected one of the store; name it with `audit`",
    "column": "no column, expected one of the catalog; name it with `column`",
}
# Former names of figures, which existing manifests of papers still use.
FORMER_NAMES = {"metallicity-histogram": "histogram"}


def parse_width(width: str | float | None) -> float | None:
    """Convert a width to inches.

    Parameters
    ----------
    width : "column", "text", float, str or None
        An AASTeX width, or a number [inch], which may be text.

    Returns
    -------
    float or None
        The width [inch]; None if ``width`` is None.

    Raises
    ------
    FigureError
        If ``width`` is another word, or a number outside ``MIN_WIDTH`` to ``MAX_WIDTH``.
    """
    if width is None or width in WIDTHS:
        return None if width is None else WIDTHS[str(width)]
    try:
        inches = float(width)
    except ValueError:
        inches = 0.0
    if not MIN_WIDTH <= inches <= MAX_WIDTH:
        raise FigureError(
            f"`width` {width!r}, expected {', '.join(WIDTHS)} or inches from {MIN_WIDTH:g} to "
            f"{MAX_WIDTH:g}"
        )
    return inches


def check_colormap(name: str) -> None:
    """Raise FigureError if matplotlib has no colour map with this name."""
    if name not in mpl.colormaps:
        hint = suggest(name, list(mpl.colormaps), "see matplotlib.colormaps")
        raise FigureError(f"`cmap` {name!r}: unknown, expected a colour map of matplotlib; {hint}")


def is_diverging(name: str) -> bool:
    """Return whether a colour map of matplotlib diverges from its middle."""
    return name.removesuffix("_r") in DIVERGING


def find_figure(name: str) -> FigureKind:
    """Look up a kind of figure.

    Parameters
    ----------
    name : str
        A key of `FIGURES` or of `FORMER_NAMES`.

    Returns
    -------
    FigureKind

    Raises
    ------
    FigureError
        If the name is unknown.
    """
    known = FORMER_NAMES.get(name, name)
    if known not in FIGURES:
        hint = suggest(name, FIGURES, f"expected one of {', '.join(FIGURES)}")
        raise FigureError(f"figure {name!r}: unknown; {hint}")
    return FIGURES[known]


def check_figure(
    name: str,
    *,
    unit: str | None = None,
    other: Path | None = None,
    classes: Sequence[str] = (),
    audit: Path | None = None,
    column: str | None = None,
    statistic: str | None = None,
    map: MapKind | None = None,
    cutouts: bool = False,
    projection: Projection | None = None,
) -> FigureKind:
    """Look up a kind of figure, and check the options it is given.

    Parameters
    ----------
    name : str
        A key of `FIGURES` or of `FORMER_NAMES`.
    unit : str, optional
        Column with the radius that is the unit of distance.
    other : Path, optional
        A second store.
    classes : sequence of str, optional
        Classes whose maps are shown.
    audit : Path, optional
        An audit of the store.
    column, statistic : str, optional
        Column of the catalog, and column of the audit's table.
    map : {"grad-cam", "evidence"}, optional
        What maps are shown.
    cutouts : bool, default False
        Whether cutouts are shown in place of points.
    projection : {"pca", "umap"}, optional
        How features are projected.

    Returns
    -------
    FigureKind

    Raises
    ------
    FigureError
        If the name is unknown, the figure does not take one of the options, or it needs one that is
        not given.
    """
    kind = find_figure(name)
    given = {
        "unit": unit,
        "other": other,
        "classes": classes or None,
        "audit": audit,
        "column": column,
        "statistic": statistic,
        "map": map,
        "cutouts": cutouts or None,
        "projection": projection,
    }
    for field, value in given.items():
        if value is not None and field not in kind.options:
            takers = [name for name, kind in FIGURES.items() if field in kind.options]
            raise FigureError(f"figure {name!r}: takes no `{field}`, it is for {', '.join(takers)}")
    for field, lacking in _NEEDED.items():
        if field in kind.options and given[field] is None:
            raise FigureError(f"figure {name!r}: {lacking}")
    return kind


def check_style(
    name: str, style: StyleSettings, asked: Collection[str], map: MapKind | None = None
) -> None:
    """Check that a figure takes the keys of a style that were given for it alone.

    Those of a settings file are for all figures, and count where they apply.

    Parameters
    ----------
    name : str
        A key of `FIGURES` or of `FORMER_NAMES`.
    style : StyleSettings
        The style.
    asked : collection of str
        The keys that were given for this figure.
    map : {"grad-cam", "evidence"}, optional
        What maps are shown.

    Raises
    ------
    FigureError
        If the figure has nothing that a key could change, or its maps need another colour map.
    """
    kind = find_figure(name)
    for key in STYLED:
        if key in asked and key not in kind.styled:
            takers = [one for one, found in FIGURES.items() if key in found.styled]
            raise FigureError(f"figure {name!r}: takes no `{key}`, it is for {', '.join(takers)}")
    if "cmap" not in asked or style.cmap is None:
        return
    check_colormap(style.cmap)
    is_signed = kind.is_signed or map == "evidence" or style.negative
    if not is_signed and "cmap" not in kind.options:
        takers = [one for one, found in FIGURES.items() if "cmap" in found.options]
        takers += [one for one, found in FIGURES.items() if found.is_signed]
        raise FigureError(f"figure {name!r}: takes no `cmap`, it is for {', '.join(takers)}")
    if is_signed and not is_diverging(style.cmap):
        raise FigureError(
            f"`cmap` {style.cmap!r}: for maps of one sign, expected one that diverges from zero "
            "for these, such as 'RdBu_r', 'PuOr' or 'berlin'"
        )


def render_figure(
    name: str,
    store: Path,
    query: Query,
    path: Path,
    *,
    width: str | float | None = None,
    unit: str | None = None,
    other: Path | None = None,
    classes: Sequence[str] = (),
    audit: Path | None = None,
    column: str | None = None,
    statistic: str | None = None,
    map: MapKind | None = None,
    cutouts: bool = False,
    projection: Projection | None = None,
    style: StyleSettings = DEFAULT_STYLE,
    data: Path | None = None,
    figure_set: str | None = None,
    if_exists: ErrorOrReplace = "error",
    opener: Opener = open_store,
) -> list[Path]:
    """Draw a figure from a store or an audit, and write it with its caption.

    Parameters
    ----------
    name : str
        A key of `FIGURES` or of `FORMER_NAMES`.
    store : Path
        The store; the audit for figures of one.
    query : Query
        The galaxies. If ``n`` is None, the figure's default applies.
    path : Path
        Figure to write: .pdf, .png or .svg.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]; by default, that of the figure.
    unit : str, optional
        Column of the catalog with the radius [arcsec] that is the unit of distance.
    other : Path, optional
        A second store, for ``compare``.
    classes : sequence of str, optional
        Classes whose maps rows show; see `galfig.figures.choice.find_classes`.
    audit : Path, optional
        An audit of the store, for ``attribution-vs``.
    column, statistic : str, optional
        Column of the catalog, and column of the audit's table, for ``attribution-vs``.
    map : {"grad-cam", "evidence"}, optional
        For ``panels``: "evidence" shows such maps in place of those of the store's method;
        "grad-cam" refuses a store of another method.
    cutouts : bool, default False
        For ``feature-space``: show cutouts, in place of points.
    projection : {"pca", "umap"}, optional
        For ``feature-space``: how features are projected; by default, to principal components.
    style : StyleSettings, optional
        How the figure looks.
    data : Path, optional
        Table to write with the numbers that the figure shows, in a format of
        `galfig.tables.formats`.
    figure_set : str, optional
        For ``atlas``: write each page to a file of its own, as a figure set of the AAS journals
        with this number; see `galfig.figures.figure_set.write_figure_set`.
    if_exists : {"error", "replace"}, default "error"
        What to do if a file already exists.
    opener : callable, optional
        Opens each store by its path; `galfig.pipeline.supply.Sources.open` also makes again what a
        store does not hold.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    FigureError
        If the name is unknown, an option does not apply to the figure, or the store lacks what
        the figure shows.
    SelectionError
        If no galaxy satisfies the query.
    StoreError, AuditError
        If a store or an audit cannot be read.
    OutputError
        If a file already exists, cannot be written, or has another suffix.
    """
    check_format(path)
    check_table(data)
    with draw_figure(
        name,
        store,
        query,
        width=width,
        unit=unit,
        other=other,
        classes=classes,
        audit=audit,
        column=column,
        statistic=statistic,
        map=map,
        cutouts=cutouts,
        projection=projection,
        style=style,
        opener=opener,
    ) as drawn:
        if figure_set is not None:
            return write_figure_set(*drawn, path, figure_set, data=data, if_exists=if_exists)
        return write_drawing(*drawn, path, data=data, if_exists=if_exists)


@contextmanager
def draw_figure(
    name: str,
    store: Path,
    query: Query,
    *,
    width: str | float | None = None,
    unit: str | None = None,
    other: Path | None = None,
    classes: Sequence[str] = (),
    audit: Path | None = None,
    column: str | None = None,
    statistic: str | None = None,
    map: MapKind | None = None,
    cutouts: bool = False,
    projection: Projection | None = None,
    style: StyleSettings = DEFAULT_STYLE,
    opener: Opener = open_store,
) -> Iterator[tuple[Drawing, dict[str, Any]]]:
    """Draw a figure, and keep its stores open inside a ``with`` block.

    Some figures read the stores while they are being written. Parameters and exceptions are those
    of `render_figure`.

    Yields
    ------
    drawing : Drawing
        The figure.
    provenance : dict
        What the figure was made from.
    """
    kind = check_figure(
        name,
        unit=unit,
        other=other,
        classes=classes,
        audit=audit,
        column=column,
        statistic=statistic,
        map=map,
        cutouts=cutouts,
        projection=projection,
    )
    inches = parse_width(width)
    if kind.source == "audit":
        _check_query(name, kind, query)
        yield draw_audit(open_audit(store), name, DrawOptions(inches, style=style))
        return
    with ExitStack() as stores:
        opened = stores.enter_context(opener(store))
        second = None if other is None else stores.enter_context(opener(other))
        options = DrawOptions(
            inches,
            unit,
            second,
            classes=tuple(classes),
            audit=None if audit is None else open_audit(audit),
            column=column,
            statistic=statistic,
            map=map,
            style=style,
            cutouts=cutouts,
            projection=projection,
        )
        yield draw_from(opened, name, query, options)


def draw_audit(audit: Audit, name: str, options: DrawOptions) -> tuple[Drawing, dict[str, Any]]:
    """Draw a figure of an audit.

    Parameters
    ----------
    audit : Audit
        The audit.
    name : str
        A figure of `FIGURES` whose source is an audit.
    options : DrawOptions
        Width and axes.

    Returns
    -------
    drawing : Drawing
        The figure.
    provenance : dict
        What the figure was made from.

    Raises
    ------
    FigureError
        If the audit lacks what the figure shows.
    """
    module = importlib.import_module(f"galfig.figures.{find_figure(name).module}")
    drawing = _draw(partial(module.draw, audit.renamed(options.style.class_names)), options)
    return drawing, describe_audit_provenance(name, audit, options)


def draw_from(
    store: Store, name: str, chosen: Query | Selection, options: DrawOptions
) -> tuple[Drawing, dict[str, Any]]:
    """Draw a figure from an open store, which must stay open until the figure is written.

    Parameters
    ----------
    store : Store
        The store.
    name : str
        A key of `FIGURES` or of `FORMER_NAMES`.
    chosen : Query or Selection
        The galaxies. If ``n`` of a query is None, the figure's default applies.
    options : DrawOptions
        Width and other options.

    Returns
    -------
    drawing : Drawing
        The figure.
    provenance : dict
        What the figure was made from.

    Raises
    ------
    FigureError
        If the name is unknown, or the store lacks what the figure shows.
    SelectionError
        If no galaxy satisfies the query.
    """
    kind = find_figure(name)
    options = _take_method(store, options)
    view, given = _rename(store, options), options
    if isinstance(chosen, Query):
        _check_query(name, kind, chosen)
        chosen = select_galaxies(view, _complete(chosen, kind), other=options.other)
    store.announce(chosen.indices)
    options = dataclasses.replace(options, cmap=options.cmap or _choose_colormap(kind, options))
    if options.other is not None:
        words = options.style.class_names, options.style.labels
        options = dataclasses.replace(options, other=options.other.renamed(*words))
    module = importlib.import_module(f"galfig.figures.{kind.module}")
    shown, recorded = (
        dataclasses.replace(chosen, query=rename_classes(view, chosen.query, names))
        for names in (view.class_names, view.original_names)
    )
    drawing = _draw(partial(module.draw, view, shown), options)
    if view.new_names:
        # What the figure was made from has the names of the file.
        classes = tuple(view.original_names[index] for index in find_classes(view, given.classes))
        given = dataclasses.replace(given, classes=classes)
    of_galaxies = recorded if kind.shows_galaxies else None
    return drawing, describe_provenance(name, store, of_galaxies, given)


def _take_method(store: Store, options: DrawOptions) -> DrawOptions:
    """Return options without "grad-cam", which is what a store of Grad-CAM shows anyway."""
    if options.map != "grad-cam":
        return options
    if store.record.method != "grad-cam":
        raise FigureError(
            f'{store.path}: `map` is "grad-cam", but its maps are of {quote(store.record.method)}; '
            "leave `map` out to show those"
        )
    return dataclasses.replace(options, map=None)


def _choose_colormap(kind: FigureKind, options: DrawOptions) -> str | None:
    """Return the colour map of the style, where it suits the maps of a figure."""
    cmap = options.style.cmap
    if kind.is_signed or options.map is not None or options.style.negative:
        is_apt = cmap is not None and is_diverging(cmap)
        return cmap if is_apt and (kind.is_signed or "cmap" in kind.options) else None
    return cmap if "cmap" in kind.options else None


def _rename(store: Store, options: DrawOptions) -> Store:
    """Return a store with the names for classes and columns that the style gives."""
    class_names, labels = options.style.class_names, options.style.labels
    check_labels(labels)
    known = (*store.column_names, store.settings.classes.column)
    audited = () if options.audit is None else tuple(options.audit.columns)
    for column in labels:
        if column not in known and column not in audited:
            hint = suggest(column, known, f"expected one of {shorten(known)}")
            raise FigureError(f"{store.path}: `labels` {quote(column)}: no column of it; {hint}")
    view = store.renamed(class_names, labels)
    # Beside a new name, those that were kept may have the quantity behind them.
    shown = name_classes(view)
    for name in shown:
        if class_names and shown.count(name) > 1:
            raise FigureError(
                f"{store.path}: `class_names` would show two classes as {quote(name)}, expected a "
                "name for each"
            )
    return view


def _draw(draw: Callable[[DrawOptions], Drawing], options: DrawOptions) -> Drawing:
    """Draw in the style that is asked for, unless on axes of the caller."""
    if options.style.cmap is not None:
        check_colormap(options.style.cmap)
    if options.ax is not None or options.axes is not None:
        return draw(options)
    with paper_style(options.style):
        drawing = dataclasses.replace(draw(options), style=options.style)
        if options.style.title:
            _write_title(drawing, options.style.title)
        return drawing


def _write_title(drawing: Drawing, title: str) -> None:
    """Write a title above a chart, whose axes make room for it; rows of panels have theirs."""
    for page in drawing.pages if isinstance(drawing.pages, tuple) else ():
        if page.get_layout_engine() is not None:
            words, size = fit_words(title, page.get_figwidth() - 0.2, scale_font(9), "bold", 3)
            page.suptitle(words, fontsize=size, weight="bold", parse_math=False)


def _check_query(name: str, kind: FigureKind, query: Query) -> None:
    """Raise FigureError if galaxies are selected for a figure that shows none."""
    if kind.shows_galaxies:
        return
    what = "an audit" if kind.source == "audit" else "the training of the network"
    given, default = dataclasses.asdict(query), dataclasses.asdict(Query(n=None))
    chosen = [f"`{key}`" for key, value in given.items() if value != default[key]]
    if chosen:
        raise FigureError(
            f"figure {name!r}: shows {what}, expected no selection of "
            f"galaxies; leave out {', '.join(chosen)}"
        )


def _complete(query: Query, kind: FigureKind) -> Query:
    """Fill in the defaults of a kind of figure where the query leaves them open."""
    if query.objids:
        return query
    if kind.sort is not None and query.like is not None:
        raise FigureError(f"`like`: these are galaxies by {kind.sort}, expected none alike to one")
    return dataclasses.replace(query, n=query.n or kind.n, sort=kind.sort or query.sort)
