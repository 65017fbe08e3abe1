"""The figures by name: which module draws which, what it takes, and how many galaxies it shows."""

import dataclasses
import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from galfig.errors import FigureError, OutputError
from galfig.figures.drawing import Drawing, DrawOptions
from galfig.figures.save import check_format, describe_provenance, write_drawing
from galfig.figures.style import COLUMN_WIDTH, TEXT_WIDTH
from galfig.runtime.messages import suggest
from galfig.store.reader import open_store
from galfig.store.selection import Query, select_galaxies

WIDTHS = {"column": COLUMN_WIDTH, "text": TEXT_WIDTH}
# Narrower, no axis has room for its words; wider, no page for the figure.
MIN_WIDTH, MAX_WIDTH = 1.5, 20.0


@dataclass(frozen=True)
class FigureKind:
    """A kind of figure.

    Attributes
    ----------
    module : str
        Its ``draw(store, selection, options)`` makes the `galfig.figures.drawing.Drawing`.
    summary : str
        What it shows, in a line.
    n : int or None
        Galaxies that it shows unless told otherwise; None for all.
    options : tuple of str
        What it takes beside galaxies and a width: fields of `DrawOptions`.
    sort : "loss" or None
        The order that it is about, whatever is asked for.
    """

    module: str
    summary: str
    n: int | None = None
    options: tuple[str, ...] = ()
    sort: Literal["loss"] | None = None


FIGURES = {
    "panels": FigureKind("panels", "rows of cutout and maps, as galfig render", n=5),
    "histogram": FigureKind("histogram", "the binned quantity, its edges and classes"),
    "class-examples": FigureKind("class_examples", "cutouts, one row per class"),
    "training-curves": FigureKind("training_curves", "losses and metrics by epoch"),
    "learning-rate": FigureKind(
        "learning_rate", "curve of the learning-rate finder, and the rate chosen"
    ),
    "confusion-matrix": FigureKind("confusion_matrix", "counts and fractions of each true class"),
    "roc": FigureKind("roc", "ROC curve, and its area with a bootstrap interval"),
    "top-losses": FigureKind(
        "top_losses",
        "the largest losses: maps of the true and the likeliest wrong class",
        n=5,
        sort="loss",
    ),
    "stacked-maps": FigureKind("stacked_maps", "mean maps by true and predicted class"),
    "radial-profile": FigureKind(
        "radial_profile", "mean attribution against radius, with bootstrap bands", options=("unit",)
    ),
    "reliability": FigureKind(
        "reliability", "how often predictions of each probability are correct"
    ),
    "compare": FigureKind("compare", "the same galaxies from two stores", n=3, options=("other",)),
    "atlas": FigureKind("atlas", "every galaxy, on many pages"),
}
# Names that figures once had, which manifests of papers still use.
FORMER_NAMES = {"metallicity-histogram": "histogram"}


def parse_width(width: str | float | None) -> float | None:
    """Return a width [inch] given as "column" or "text" (of AASTeX) or as a number.

    Raises
    ------
    FigureError
        Other words, or a number that no figure can have.
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


def find_figure(name: str) -> FigureKind:
    """Return the kind of figure of a name, or of one that it once had; raises FigureError."""
    known = FORMER_NAMES.get(name, name)
    if known not in FIGURES:
        hint = suggest(name, FIGURES, f"expected one of {', '.join(FIGURES)}")
        raise FigureError(f"figure {name!r}: unknown; {hint}")
    return FIGURES[known]


def check_figure(name: str, *, unit: str | None = None, other: Path | None = None) -> FigureKind:
    """Return the kind of figure of a name; raise FigureError where it takes no such option."""
    kind = find_figure(name)
    for field, value in (("unit", unit), ("other", other)):
        if value is not None and field not in kind.options:
            takers = [name for name, kind in FIGURES.items() if field in kind.options]
            raise FigureError(f"figure {name!r}: takes no `{field}`, it is for {', '.join(takers)}")
    if "other" in kind.options and other is None:
        raise FigureError(f"figure {name!r}: one store, expected two; name the second with `other`")
    return kind


def render_figure(
    name: str,
    store: Path,
    query: Query,
    path: Path,
    *,
    width: str | float | None = None,
    unit: str | None = None,
    other: Path | None = None,
    data: Path | None = None,
    quiet: bool = True,
    overwrite: bool = False,
) -> list[Path]:
    """Draw a figure from a store and write it, its caption beside it.

    Parameters
    ----------
    name : str
        One of `FIGURES` or of `FORMER_NAMES`.
    store : Path
        The store.
    query : Query
        The galaxies; ``n`` of None is the figure's own default.
    path : Path
        Figure to write: .pdf, .png or .svg.
    width : "column", "text" or float, optional
        Width of the figure, of AASTeX or [inch]; default the figure's own.
    unit : str, optional
        Column of the catalog with the radius [arcsec] that is the unit of distance.
    other : Path, optional
        A second store, for ``compare``.
    data : Path, optional
        Table to write with the numbers that the figure shows: .ecsv.
    quiet : bool, default True
        Without a progress bar.
    overwrite : bool, default False
        Replace files that are there.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    FigureError
        An unknown name, an option that the figure does not take, or a store that lacks what it
        shows.
    OutputError
        A file that is there, or of another suffix.
    """
    check_format(path)
    if data is not None and data.suffix != ".ecsv":
        raise OutputError(f"{data}: suffix {data.suffix!r}, expected .ecsv")
    with draw_figure(name, store, query, width=width, unit=unit, other=other) as drawn:
        return write_drawing(*drawn, path, data=data, quiet=quiet, overwrite=overwrite)


@contextmanager
def draw_figure(
    name: str,
    store: Path,
    query: Query,
    *,
    width: str | float | None = None,
    unit: str | None = None,
    other: Path | None = None,
) -> Iterator[tuple[Drawing, dict[str, Any]]]:
    """Draw a figure, and keep its stores open for as long as it is being written.

    Parameters are those of `render_figure`.

    Yields
    ------
    Drawing, dict
        The figure, and what it was made from.
    """
    kind = check_figure(name, unit=unit, other=other)
    if query.n is None and not query.objids:
        query = dataclasses.replace(query, n=kind.n)
    if kind.sort is not None and not query.objids:
        query = dataclasses.replace(query, sort=kind.sort)
    inches = parse_width(width)
    module = importlib.import_module(f"galfig.figures.{kind.module}")
    with ExitStack() as stores:
        opened = stores.enter_context(open_store(store))
        second = None if other is None else stores.enter_context(open_store(other))
        among = None if second is None else set(second.objid)
        selection = select_galaxies(opened, query, among=among)
        options = DrawOptions(width=inches, unit=unit, other=second)
        drawing = module.draw(opened, selection, options)
        yield drawing, describe_provenance(name, opened, selection, options)
