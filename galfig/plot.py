"""Figures for notebooks and scripts, drawn from an open store; one function per figure.

Every function takes the store, the galaxies and ``ax``, and returns a `Plot`; those named after the
audit take an audit alone. A notebook displays
the plot, and the plot has a caption. The galaxies, ``rows``, may be the result of `Store.select`;
the caption then states how they were selected. They may also be positions or identifiers. Without
``rows``, a figure shows the same galaxies as ``galfig figure``.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from galfig.config import StyleSettings, make_style
from galfig.errors import FigureError
from galfig.figures.captions import PLAIN
from galfig.figures.drawing import Drawing, DrawOptions
from galfig.figures.figure_set import write_figure_set
from galfig.figures.registry import (
    FIGURES,
    check_colormap,
    check_style,
    draw_audit,
    draw_from,
    parse_width,
)
from galfig.figures.save import write_drawing
from galfig.figures.style import keep_layout, paper_style
from galfig.runtime.files import ErrorOrReplace
from galfig.runtime.messages import require_choice
from galfig.runtime.options import MapKind, Projection
from galfig.store.audits import Audit
from galfig.store.reader import Store
from galfig.store.selection import Query, Rows, RowsLike, Selection, find_positions

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Panels = Sequence[Sequence[Axes]] | NDArray[np.object_]

__all__ = [
    "Plot",
    "atlas",
    "attribution_vs",
    "audit_curves",
    "audit_sanity",
    "audit_summary",
    "class_examples",
    "compare",
    "confusion_matrix",
    "evidence",
    "feature_space",
    "histogram",
    "learning_rate",
    "panels",
    "radial_profile",
    "reliability",
    "roc",
    "stacked_maps",
    "top_losses",
    "training_curves",
]

Width = Literal["column", "text"] | float
StyleLike = StyleSettings | Mapping[str, Any] | str | None
# Resolution of the image in a notebook [dots/inch].
NOTEBOOK_DPI = 110


class Plot:
    """A figure that a notebook displays and that can be saved with its caption.

    Attributes
    ----------
    caption : str
        The caption in plain text, one sentence per line.
    alt : str
        Alternative text: one sentence for readers who cannot see the figure.
    """

    def __init__(
        self, drawing: Drawing, provenance: Mapping[str, Any], *, is_own: bool = True
    ) -> None:
        self._drawing = drawing
        self._provenance = provenance
        self._is_own = is_own
        self.caption = drawing.describe(PLAIN).strip()
        self.alt = drawing.alt

    def __repr__(self) -> str:
        return f"<Plot {self._drawing.name}: {self.caption.splitlines()[0]}>"

    def _repr_png_(self) -> bytes | None:
        """Return the first page as PNG; None if the caller's own figure was drawn on."""
        if not self._is_own:
            return None
        stream = io.BytesIO()
        figure = self.figure
        with paper_style(self._drawing.style), keep_layout(figure):
            figure.savefig(stream, format="png", dpi=NOTEBOOK_DPI)
        return stream.getvalue()

    @property
    def figure(self) -> "Figure":
        """The matplotlib figure; for an atlas, the first page."""
        with paper_style(self._drawing.style):
            return next(iter(self._drawing.pages))

    @property
    def data(self) -> "pd.DataFrame":
        """The numbers that the figure shows, as a table.

        ``attrs["units"]`` and ``attrs["descriptions"]`` hold the unit and the description of each
        column.
        """
        import pandas as pd

        columns = self._drawing.tabulate()
        table = pd.DataFrame({name: np.asarray(column.values) for name, column in columns.items()})
        table.attrs["units"] = {name: column.unit for name, column in columns.items()}
        table.attrs["descriptions"] = {n: column.description for n, column in columns.items()}
        return table

    def save(
        self,
        path: Path | str,
        *,
        data: Path | str | None = None,
        figure_set: str | None = None,
        if_exists: ErrorOrReplace = "error",
    ) -> list[Path]:
        """Write the figure and, beside it, its caption (.tex, .txt) and alternative text.

        Parameters
        ----------
        path : Path or str
            Figure to write: .pdf, .png or .svg.
        data : Path or str, optional
            Table to write with the numbers that the figure shows: .fits, .csv, .ecsv, .vot, .xml,
            .parquet or .mrt.
        figure_set : str, optional
            Of an atlas: its number in the paper, such as "4", to write each page to a file of its
            own with the macros of a figure set of the AAS journals.
        if_exists : {"error", "replace"}, default "error"
            What to do if a file already exists.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        FigureError
            If ``figure_set`` is no number, or the figure is no atlas.
        OutputError
            If a file has another suffix, already exists, or cannot be written.
        """
        require_choice("if_exists", if_exists, get_args(ErrorOrReplace))
        table = None if data is None else Path(data)
        figure, path = (self._drawing, self._provenance), Path(path)
        if figure_set is not None:
            return write_figure_set(*figure, path, figure_set, data=table, if_exists=if_exists)
        return write_drawing(*figure, path, data=table, if_exists=if_exists)


def panels(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Panels | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
    cmap: str | None = None,
    classes: Sequence[str] = (),
    map: MapKind | None = None,
) -> Plot:
    """Draw one row per galaxy: its cutout, then the map of each class over the cutout.

    Parameters
    ----------
    store : Store
        An open store.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to draw; by default, five drawn at random.
    ax : (n, 2 + M) array_like of matplotlib.axes.Axes, optional
        Axes to draw on: of each row those of the cutout, of the M maps and of the colour bar; with
        ``layout="grid"``, (2 + M, n). By default, a new figure.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "text", 7.1 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".
    cmap : str, optional
        Colour map of the Grad-CAM maps; it should be dark at zero. Default "inferno".
    classes : sequence of str, optional
        Classes whose maps are shown. By default, all of up to four; of more, the true and the
        predicted class.
    map : {"grad-cam", "evidence"}, optional
        "evidence" shows signed maps of the log-odds of a class, in place of those of the store's
        method; "grad-cam" shows those, and refuses a store of another method. Of evidence, the
        default of ``classes`` is that of `evidence`, and ``cmap`` should diverge from zero.

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``ax`` is of another shape; ``width``, ``cmap`` or ``map`` is not valid; or ``rows`` is
        empty or belongs to another store.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold.
    """
    return _plot(
        "panels", store, rows, ax=ax, width=width, style=style, cmap=cmap, classes=classes, map=map
    )


def evidence(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
    cmap: str | None = None,
    classes: Sequence[str] = (),
) -> Plot:
    """Draw one row per galaxy: its cutout, then its signed map of the log-odds of a class.

    All rows share one colour scale, with zero in its middle. Where the store is that of several
    networks, cells are hatched in which the 95 % interval of their mean holds zero.

    Parameters
    ----------
    store : Store
        An open store.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to draw; by default, five drawn at random.
    ax : None
        Not supported, because this figure has several axes.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "column", 3.39 inch, for
        one map per galaxy, and "text", 7.1 inch, for several.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".
    cmap : str, optional
        Diverging colour map. Default "RdBu_r".
    classes : sequence of str, optional
        Classes whose maps against the rest are shown. By default, the second of two; all of up to
        four; of more, the true and the predicted class.

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``ax`` is given; ``width`` or ``cmap`` is not valid; or ``rows`` is empty or
        belongs to another store.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold.
    StoreError
        If the method of the store's maps gives no evidence; see `Store.evidence`.
    """
    return _plot(
        "evidence", store, rows, ax=ax, width=width, style=style, cmap=cmap, classes=classes
    )


def histogram(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
) -> Plot:
    """Draw the distribution of the binned quantity, with the edges of the classes.

    Parameters
    ----------
    store : Store
        An open store whose classes are bins of a quantity.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to use; all by default.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; a new figure by default.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "column", 3.39 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``width`` is not valid; ``rows`` is empty or belongs to another store; or the
        classes are not bins of a quantity.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold.
    """
    return _plot("histogram", store, rows, ax=ax, width=width, style=style)


def class_examples(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
) -> Plot:
    """Draw cutouts, one row per true class.

    Parameters
    ----------
    store : Store
        An open store of galaxies with known classes.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to choose from; all by default.
    ax : None
        Not supported, because this figure has several axes.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "text", 7.1 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``ax`` is given; ``width`` is not valid; or ``rows`` is empty or belongs to
        another store.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold, or no galaxy has a
        true class.
    """
    return _plot("class-examples", store, rows, ax=ax, width=width, style=style)


def training_curves(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
) -> Plot:
    """Draw the losses and metrics of the network against the epoch.

    Parameters
    ----------
    store : Store
        An open store made with a network that galfig trained.
    rows : optional
        Ignored: the history belongs to the network, not to galaxies.
    ax : None
        Not supported, because this figure has several axes.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "column", 3.39 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``ax`` is given; ``width`` is not valid; or the network has no training history.
    """
    return _plot("training-curves", store, None, ax=ax, width=width, style=style)


def learning_rate(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
) -> Plot:
    """Draw the curve of the learning-rate finder, and the rate chosen.

    Parameters
    ----------
    store : Store
        An open store made with a network that was trained with ``lr="auto"``.
    rows : optional
        Ignored: the curve belongs to the network, not to galaxies.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; a new figure by default.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "column", 3.39 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``width`` is not valid, or the network was trained at a fixed learning rate.
    """
    return _plot("learning-rate", store, None, ax=ax, width=width, style=style)


def confusion_matrix(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
    cmap: str | None = None,
) -> Plot:
    """Draw the confusion matrix: numbers of galaxies by true and predicted class.

    Parameters
    ----------
    store : Store
        An open store of galaxies with known classes.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to use; all by default.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; a new figure by default.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. The default grows with the number
        of classes, up to one column.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".
    cmap : str, optional
        Colour map of the fractions; it should be light at zero. Default "Blues".

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``width`` or ``cmap`` is not valid, or ``rows`` is empty or belongs to another
        store.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold, or no galaxy has a
        true class.
    """
    return _plot("confusion-matrix", store, rows, ax=ax, width=width, style=style, cmap=cmap)


def roc(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
) -> Plot:
    """Draw the ROC curve, with the area under it and its 95 % interval.

    Parameters
    ----------
    store : Store
        An open store of galaxies with known classes.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to use; all by default.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; a new figure by default.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "column", 3.39 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``width`` is not valid; ``rows`` is empty or belongs to another store; or a class
        has no galaxies.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold, or no galaxy has a
        true class.
    """
    return _plot("roc", store, rows, ax=ax, width=width, style=style)


def top_losses(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Panels | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
    cmap: str | None = None,
) -> Plot:
    """Draw the galaxies with the largest loss, with the maps of two classes.

    The maps are those of the true class and of the most probable other class.

    Parameters
    ----------
    store : Store
        An open store of galaxies with known classes.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to draw; by default, the five with the largest loss.
    ax : (n, 2 + M) array_like of matplotlib.axes.Axes, optional
        Axes to draw on: of each row those of the cutout, of the M maps and of the colour bar; with
        ``layout="grid"``, (2 + M, n). By default, a new figure.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "text", 7.1 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".
    cmap : str, optional
        Colour map of the Grad-CAM maps; it should be dark at zero. Default "inferno".

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``ax`` is of another shape; ``width`` or ``cmap`` is not valid; or ``rows`` is empty or
        belongs to another store.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold, or no galaxy has a
        true class.
    """
    return _plot("top-losses", store, rows, ax=ax, width=width, style=style, cmap=cmap)


def stacked_maps(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Panels | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
    cmap: str | None = None,
    classes: Sequence[str] = (),
) -> Plot:
    """Draw mean cutouts and mean maps by true and predicted class.

    Parameters
    ----------
    store : Store
        An open store of galaxies with known classes.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to use; all by default.
    ax : (n, 2 + M) array_like of matplotlib.axes.Axes, optional
        Axes to draw on: of each row those of the cutout, of the M maps and of the colour bar; with
        ``layout="grid"``, (2 + M, n). By default, a new figure.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "text", 7.1 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".
    cmap : str, optional
        Colour map of the Grad-CAM maps; it should be dark at zero. Default "inferno".
    classes : sequence of str, optional
        Classes whose maps are shown; by default, all.

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``ax`` is of another shape; ``width`` or ``cmap`` is not valid; ``rows`` is empty or
        belongs to another store; or no chosen galaxy has a true class.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold, or no galaxy has a
        true class.
    """
    return _plot(
        "stacked-maps", store, rows, ax=ax, width=width, style=style, cmap=cmap, classes=classes
    )


def radial_profile(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
    unit: str | None = None,
) -> Plot:
    """Draw the mean map of each class against the distance from the centre.

    Parameters
    ----------
    store : Store
        An open store.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to use; all by default.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; a new figure by default.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "column", 3.39 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".
    unit : str, optional
        Column of the catalog with the radius [arcsec] that is the unit of distance.

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``width`` is not valid; ``rows`` is empty or belongs to another store; or the
        maps are too small, or ``unit`` is not a column of radii.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold.
    """
    return _plot("radial-profile", store, rows, ax=ax, width=width, style=style, unit=unit)


def reliability(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
) -> Plot:
    """Draw the fraction of correct predictions against the predicted probability.

    Parameters
    ----------
    store : Store
        An open store of galaxies with known classes.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to use; all by default.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on, without the number of galaxies; by default, a new figure that includes it.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "column", 3.39 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``width`` is not valid, or ``rows`` is empty or belongs to another store.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold, or no galaxy has a
        true class.
    """
    return _plot("reliability", store, rows, ax=ax, width=width, style=style)


def compare(
    store: Store,
    rows: RowsLike | None = None,
    *,
    other: Store,
    ax: "Panels | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
    cmap: str | None = None,
    classes: Sequence[str] = (),
) -> Plot:
    """Draw the same galaxies explained by two networks, in pairs of rows.

    Parameters
    ----------
    store, other : Store
        Open stores with the same classes.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies that both stores hold; by default, three drawn at random.
    ax : (n, 2 + M) array_like of matplotlib.axes.Axes, optional
        Axes to draw on: of each row those of the cutout, of the M maps and of the colour bar; with
        ``layout="grid"``, (2 + M, n). By default, a new figure.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "text", 7.1 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".
    cmap : str, optional
        Colour map of the Grad-CAM maps; it should be dark at zero. Default "inferno".
    classes : sequence of str, optional
        Classes whose maps are shown. By default, all of up to four; of more, the true and the
        predicted class.

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``ax`` is of another shape; ``width`` or ``cmap`` is not valid; ``rows`` is empty or
        belongs to another store; or the stores have different classes, or ``other`` lacks a galaxy.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold.
    """
    return _plot(
        "compare",
        store,
        rows,
        ax=ax,
        width=width,
        style=style,
        cmap=cmap,
        classes=classes,
        other=other,
    )


def atlas(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
    cmap: str | None = None,
    classes: Sequence[str] = (),
) -> Plot:
    """Draw every galaxy with its maps, many to a page; a notebook shows the first page.

    Parameters
    ----------
    store : Store
        An open store, which must stay open until the atlas is saved.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to draw; by default all, in random order.
    ax : None
        Not supported, because this figure has several axes.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "text", 7.1 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".
    cmap : str, optional
        Colour map of the Grad-CAM maps; it should be dark at zero. Default "inferno".
    classes : sequence of str, optional
        Classes whose maps are shown; by default, all.

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``ax`` is given; ``width`` or ``cmap`` is not valid; ``rows`` is empty or belongs
        to another store; or the figure is too narrow for its panels.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold.
    """
    return _plot("atlas", store, rows, ax=ax, width=width, style=style, cmap=cmap, classes=classes)


def audit_summary(
    audit: Audit, *, ax: "Axes | None" = None, width: Width | None = None, style: StyleLike = None
) -> Plot:
    """Draw every number of an audit with its interval, beside its controls.

    Parameters
    ----------
    audit : Audit
        The audit, from `galfig.open_audit` or `galfig.audit`.
    ax : None
        Not supported, because this figure has several axes.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "text", 7.1 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".

    Returns
    -------
    Plot
        The figure, with its caption, which ends in the verdict, and data.

    Raises
    ------
    FigureError
        If ``ax`` is given, ``width`` is not valid, or the audit holds no number.
    """
    return _plot_audit("audit-summary", audit, ax=ax, width=width, style=style)


def audit_curves(
    audit: Audit, *, ax: "Axes | None" = None, width: Width | None = None, style: StyleLike = None
) -> Plot:
    """Draw how the probability changes as pixels go or come, by the map and by each control.

    Parameters
    ----------
    audit : Audit
        An audit with the measure deletion or insertion.
    ax : None
        Not supported, because this figure has several axes.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "text", 7.1 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``ax`` is given, ``width`` is not valid, or the audit has neither measure.
    """
    return _plot_audit("audit-curves", audit, ax=ax, width=width, style=style)


def audit_sanity(
    audit: Audit, *, ax: "Axes | None" = None, width: Width | None = None, style: StyleLike = None
) -> Plot:
    """Draw how much of the maps is left as the layers of the network are randomised.

    Parameters
    ----------
    audit : Audit
        An audit with the measure sanity.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; a new figure by default.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "column", 3.39 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``width`` is not valid, or the audit lacks the measure.
    """
    return _plot_audit("audit-sanity", audit, ax=ax, width=width, style=style)


def attribution_vs(
    store: Store,
    rows: RowsLike | None = None,
    *,
    audit: Audit,
    column: str,
    statistic: str | None = None,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
) -> Plot:
    """Draw a statistic of each galaxy's map against a column of the catalog.

    Parameters
    ----------
    store : Store
        An open store.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to use, of those that the audit measured; all by default.
    audit : Audit
        An audit of the store.
    column : str
        Column of the catalog with numbers.
    statistic : str, optional
        Column of ``audit.galaxies``. Default "brightness_correlation".
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; a new figure by default.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "column", 3.39 inch.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``width`` is not valid; ``rows`` is empty or belongs to another store; the audit is one
        of another store; a column is unknown; or too few galaxies have both numbers.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold.
    """
    return _plot(
        "attribution-vs",
        store,
        rows,
        ax=ax,
        width=width,
        style=style,
        audit=audit,
        column=column,
        statistic=statistic,
    )


def feature_space(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    style: StyleLike = None,
    cutouts: bool = False,
    projection: Projection | None = None,
) -> Plot:
    """Draw galaxies at the first principal components of their features, as points or cutouts.

    Parameters
    ----------
    store : Store
        An open store with features of the layer explained, or one that computes them; see
        `galfig.explain_again`.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to use; all by default. The components are fitted to them.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; a new figure by default.
    width : "column", "text" or float, optional
        Width of the figure: an AASTeX width, or a number [inch]. Default "column", 3.39 inch, and
        "text", 7.1 inch, for cutouts.
    style : str or mapping, optional
        How the figure looks, unless it is drawn on ``ax``: "journal", "talk", "poster", a style
        sheet of matplotlib, or a mapping with keys of ``[style]``. Default "journal".
    cutouts : bool, default False
        Show cutouts framed by class, in place of points: one in each cell of a grid.
    projection : {"pca", "umap"}, optional
        How features are projected: to principal components (default), or by UMAP, which needs the
        extra umap.

    Returns
    -------
    Plot
        The figure, with its caption and data.

    Raises
    ------
    FigureError
        If ``width`` is not valid; ``rows`` is empty or belongs to another store; the store holds no
        features; those of the galaxies span less than a plane; or umap-learn is not installed.
    SelectionError
        If ``rows`` contains an identifier that the store does not hold.
    """
    return _plot(
        "feature-space",
        store,
        rows,
        ax=ax,
        width=width,
        style=style,
        cutouts=cutouts,
        projection=projection,
    )


def _plot_audit(
    name: str, audit: Audit, *, ax: "Axes | None", width: Width | None, style: StyleLike
) -> Plot:
    """Draw a figure of the registry from an audit."""
    _check_axes(name, ax)
    look = make_style(style)
    if isinstance(style, Mapping):
        check_style(name, look, style.keys())
    options = DrawOptions(parse_width(width), ax=ax, style=look)
    return Plot(*draw_audit(audit, name, options), is_own=ax is None)


def _check_axes(name: str, ax: "Panels | Axes | None") -> None:
    if ax is not None and not (FIGURES[name].takes_axes or FIGURES[name].takes_panels):
        raise FigureError(f"{name}: has several axes, expected no `ax`; it makes its own figure")


def _plot(
    name: str,
    store: Store,
    rows: RowsLike | None,
    *,
    ax: "Panels | Axes | None",
    width: Width | None,
    style: StyleLike,
    cmap: str | None = None,
    unit: str | None = None,
    other: Store | None = None,
    classes: Sequence[str] = (),
    audit: Audit | None = None,
    column: str | None = None,
    statistic: str | None = None,
    map: MapKind | None = None,
    cutouts: bool = False,
    projection: Projection | None = None,
) -> Plot:
    """Draw a figure of the registry from an open store."""
    _check_axes(name, ax)
    if cmap is not None:
        check_colormap(cmap)
    if map is not None:
        require_choice("map", map, get_args(MapKind))
    if projection is not None:
        require_choice("projection", projection, get_args(Projection))
    one: Axes | None = None
    several: NDArray[np.object_] | None = None
    if ax is not None and FIGURES[name].takes_panels:
        several = np.asarray(ax, dtype=np.object_)
    else:
        one = cast("Axes | None", ax)
    look = make_style(style)
    if isinstance(style, Mapping):
        check_style(name, look, style.keys(), map)
    options = DrawOptions(
        *(parse_width(width), unit, other, one, cmap, tuple(classes)),
        *(audit, column, statistic, map, look),
        axes=several,
        cutouts=cutouts,
        projection=projection,
    )
    drawn = draw_from(store, name, _choose(store, rows), options)
    return Plot(*drawn, is_own=ax is None)


def _choose(store: Store, rows: RowsLike | None) -> Query | Selection:
    """Return how to choose galaxies: as selected, as listed, or by the default of the figure."""
    if rows is None:
        return Query(n=None)
    if isinstance(rows, Rows) and rows.selection is not None:
        if rows.plan_digest != store.record.plan_digest:
            raise FigureError(f"{store.path}: `rows` were selected from another store")
        return rows.selection
    indices = np.atleast_1d(np.asarray(find_positions(store, rows), np.intp))
    if not len(indices):
        raise FigureError(f"{store.path}: `rows` hold no galaxy, expected at least one")
    return Selection(indices, len(indices), Query(n=None, objids=tuple(store.objids(indices))))
