"""Figures for notebooks and scripts, drawn from an open store; one function a figure.

Every function takes the store, the galaxies and ``ax``, and returns a `Plot`, which a notebook
shows, and which knows its caption. The galaxies, ``rows``, are what `Store.select` returned, whose
caption then says how they were chosen, or positions or identifiers chosen by hand; without them a
figure shows those that ``galfig figure`` does.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from galfig.errors import FigureError
from galfig.figures.captions import PLAIN
from galfig.figures.drawing import Drawing, DrawOptions
from galfig.figures.registry import FIGURES, check_colormap, draw_from, parse_width
from galfig.figures.save import write_drawing
from galfig.figures.style import keep_layout, paper_style
from galfig.runtime.files import ErrorOrReplace
from galfig.store.reader import Store
from galfig.store.selection import Query, Rows, RowsLike, Selection, find_positions

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Plot",
    "atlas",
    "class_examples",
    "compare",
    "confusion_matrix",
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
# Of the picture that a notebook shows [dots/inch].
NOTEBOOK_DPI = 110


class Plot:
    """A figure that was drawn: shown by notebooks, saved with its caption.

    Attributes
    ----------
    caption : str
        What the figure shows, in sentences, one a line.
    alt : str
        What it shows in a sentence, for readers who cannot see it.
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
        """Return the first page for a notebook; None on a caller's axes, which it shows itself."""
        if not self._is_own:
            return None
        stream = io.BytesIO()
        figure = self.figure
        with paper_style(), keep_layout(figure):
            figure.savefig(stream, format="png", dpi=NOTEBOOK_DPI)
        return stream.getvalue()

    @property
    def figure(self) -> "Figure":
        """The figure of matplotlib; of an atlas the first page."""
        return next(iter(self._drawing.pages))

    @property
    def data(self) -> "pd.DataFrame":
        """The numbers that the figure shows; units and descriptions of columns are in ``attrs``."""
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
        if_exists: ErrorOrReplace = "error",
    ) -> list[Path]:
        """Write the figure and, beside it, its caption (.tex, .txt) and alternative text.

        Parameters
        ----------
        path : Path or str
            Figure to write: .pdf, .png or .svg.
        data : Path or str, optional
            Table to write with the numbers that the figure shows: .ecsv.
        if_exists : {"error", "replace"}, default "error"
            What to do where a file is there.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        OutputError
            Another suffix, a file that is there, or one that cannot be written.
        """
        return write_drawing(
            self._drawing,
            self._provenance,
            Path(path),
            data=None if data is None else Path(data),
            if_exists=if_exists,
        )


def panels(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    cmap: str | None = None,
) -> Plot:
    """Draw galaxies, a row each: the cutout, and over it the map of each class.

    Parameters
    ----------
    store : Store
        An open store.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies; default five, drawn at random.
    ax : None
        This figure has several axes, and takes none.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "text", 7.1 inch.
    cmap : str, optional
        Colour map of the maps, dark where they are small; default "inferno".

    Returns
    -------
    Plot
    """
    return _plot("panels", store, rows, ax=ax, width=width, cmap=cmap)


def histogram(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
) -> Plot:
    """Draw the distribution of the binned quantity, with the edges of the classes.

    Parameters
    ----------
    store : Store
        An open store, of classes that are bins of a number.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies; default all.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default on a figure of its own.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "column", 3.39 inch.

    Returns
    -------
    Plot
    """
    return _plot("histogram", store, rows, ax=ax, width=width)


def class_examples(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
) -> Plot:
    """Draw cutouts, a row for each true class.

    Parameters
    ----------
    store : Store
        An open store of galaxies whose class is known.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies to choose from; default all.
    ax : None
        This figure has several axes, and takes none.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "text", 7.1 inch.

    Returns
    -------
    Plot
    """
    return _plot("class-examples", store, rows, ax=ax, width=width)


def training_curves(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
) -> Plot:
    """Draw losses and metrics of the network against the epoch of its training.

    Parameters
    ----------
    store : Store
        An open store of a network that galfig trained.
    rows : optional
        Without effect: the history is that of the network.
    ax : None
        This figure has several axes, and takes none.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "column", 3.39 inch.

    Returns
    -------
    Plot
    """
    return _plot("training-curves", store, rows, ax=ax, width=width)


def learning_rate(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
) -> Plot:
    """Draw the curve of the learning-rate finder, and the rate chosen.

    Parameters
    ----------
    store : Store
        An open store of a network that was trained with ``lr="auto"``.
    rows : optional
        Without effect: the curve is that of the network.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default on a figure of its own.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "column", 3.39 inch.

    Returns
    -------
    Plot
    """
    return _plot("learning-rate", store, rows, ax=ax, width=width)


def confusion_matrix(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    cmap: str | None = None,
) -> Plot:
    """Draw how many galaxies of each true class were taken for which class.

    Parameters
    ----------
    store : Store
        An open store of galaxies whose class is known.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies; default all.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default on a figure of its own.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default by the number of classes.
    cmap : str, optional
        Colour map of the shares, light where they are small; default "Blues".

    Returns
    -------
    Plot
    """
    return _plot("confusion-matrix", store, rows, ax=ax, width=width, cmap=cmap)


def roc(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
) -> Plot:
    """Draw the receiver operating characteristic, the area below it and its bootstrap interval.

    Parameters
    ----------
    store : Store
        An open store of galaxies whose class is known.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies; default all.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default on a figure of its own.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "column", 3.39 inch.

    Returns
    -------
    Plot
    """
    return _plot("roc", store, rows, ax=ax, width=width)


def top_losses(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    cmap: str | None = None,
) -> Plot:
    """Draw the galaxies that the network is most wrong about, with the maps of two classes.

    Parameters
    ----------
    store : Store
        An open store of galaxies whose class is known.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies; default the five of largest loss.
    ax : None
        This figure has several axes, and takes none.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "text", 7.1 inch.
    cmap : str, optional
        Colour map of the maps, dark where they are small; default "inferno".

    Returns
    -------
    Plot
    """
    return _plot("top-losses", store, rows, ax=ax, width=width, cmap=cmap)


def stacked_maps(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    cmap: str | None = None,
) -> Plot:
    """Draw mean cutouts and mean maps by true and predicted class.

    Parameters
    ----------
    store : Store
        An open store of galaxies whose class is known.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies; default all.
    ax : None
        This figure has several axes, and takes none.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "text", 7.1 inch.
    cmap : str, optional
        Colour map of the maps, dark where they are small; default "inferno".

    Returns
    -------
    Plot
    """
    return _plot("stacked-maps", store, rows, ax=ax, width=width, cmap=cmap)


def radial_profile(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    unit: str | None = None,
) -> Plot:
    """Draw the mean map of each class against the distance from the centre.

    Parameters
    ----------
    store : Store
        An open store.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies; default all.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default on a figure of its own.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "column", 3.39 inch.
    unit : str, optional
        Column of the catalog with the radius [arcsec] that is the unit of distance.

    Returns
    -------
    Plot
    """
    return _plot("radial-profile", store, rows, ax=ax, width=width, unit=unit)


def reliability(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
) -> Plot:
    """Draw how often the network is right against how sure it is.

    Parameters
    ----------
    store : Store
        An open store of galaxies whose class is known.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies; default all.
    ax : matplotlib.axes.Axes, optional
        Where to draw, without the number of galaxies; default on a figure of its own, with it.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "column", 3.39 inch.

    Returns
    -------
    Plot
    """
    return _plot("reliability", store, rows, ax=ax, width=width)


def compare(
    store: Store,
    rows: RowsLike | None = None,
    *,
    other: Store,
    ax: "Axes | None" = None,
    width: Width | None = None,
    cmap: str | None = None,
) -> Plot:
    """Draw the same galaxies explained by two networks, one row above the other.

    Parameters
    ----------
    store, other : Store
        Open stores with the same classes.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies of ``store`` that ``other`` holds too; default three, drawn at random.
    ax : None
        This figure has several axes, and takes none.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "text", 7.1 inch.
    cmap : str, optional
        Colour map of the maps, dark where they are small; default "inferno".

    Returns
    -------
    Plot
    """
    return _plot("compare", store, rows, ax=ax, width=width, cmap=cmap, other=other)


def atlas(
    store: Store,
    rows: RowsLike | None = None,
    *,
    ax: "Axes | None" = None,
    width: Width | None = None,
    cmap: str | None = None,
) -> Plot:
    """Draw every galaxy with its maps, many to a page; a notebook shows the first page.

    Parameters
    ----------
    store : Store
        An open store; it has to stay open until the atlas is saved.
    rows : Rows, int, str, slice or array_like, optional
        Galaxies; default all, in random order.
    ax : None
        This figure has several axes, and takes none.
    width : "column", "text" or float, optional
        Width, of AASTeX or [inch]; default "text", 7.1 inch.
    cmap : str, optional
        Colour map of the maps, dark where they are small; default "inferno".

    Returns
    -------
    Plot
    """
    return _plot("atlas", store, rows, ax=ax, width=width, cmap=cmap)


def _plot(
    name: str,
    store: Store,
    rows: RowsLike | None,
    *,
    ax: "Axes | None",
    width: Width | None,
    cmap: str | None = None,
    unit: str | None = None,
    other: Store | None = None,
) -> Plot:
    """Draw a figure of the registry from an open store."""
    if ax is not None and not FIGURES[name].takes_axes:
        raise FigureError(f"{name}: has several axes, expected no `ax`; it makes its own figure")
    if cmap is not None:
        check_colormap(cmap)
    options = DrawOptions(width=parse_width(width), unit=unit, other=other, ax=ax, cmap=cmap)
    drawn = draw_from(store, name, _choose(store, rows), options)
    return Plot(*drawn, is_own=ax is None)


def _choose(store: Store, rows: RowsLike | None) -> Query | Selection:
    """Return how galaxies were chosen: as a selection says, by hand, or as the figure likes."""
    if rows is None:
        return Query(n=None)
    if isinstance(rows, Rows) and rows.selection is not None:
        if rows.plan_digest != store.record.plan_digest:
            raise FigureError(f"{store.path}: `rows` were selected from another store")
        return rows.selection
    indices = np.atleast_1d(np.asarray(find_positions(store, rows), np.intp))
    if not len(indices):
        raise FigureError(f"{store.path}: `rows` hold no galaxy, expected at least one")
    return Selection(indices, len(indices), Query(n=None, objids=tuple(store.objid[indices])))
