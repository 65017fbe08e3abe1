"""The figures by name: which module draws which, and how many galaxies it shows unasked."""

import dataclasses
import importlib
from dataclasses import dataclass
from pathlib import Path

from galfig.errors import FigureError
from galfig.figures.save import check_format, write_drawing
from galfig.selection import Query, select_galaxies
from galfig.store import open_store


@dataclass(frozen=True)
class FigureKind:
    """A kind of figure.

    Attributes
    ----------
    module : str
        Its ``draw(store, selection)`` makes the `galfig.figures.save.Drawing`.
    summary : str
        What it shows, in a line.
    n : int or None
        Galaxies that it shows unless told otherwise; None for all.
    """

    module: str
    summary: str
    n: int | None = None


FIGURES = {
    "panels": FigureKind("panels", "rows of cutout and maps, as galfig render", n=5),
    "metallicity-histogram": FigureKind("histogram", "the binned quantity, its edges and classes"),
    "class-examples": FigureKind("class_examples", "cutouts, a row a class"),
    "training-curves": FigureKind("training_curves", "losses and metrics by epoch"),
    "learning-rate": FigureKind("learning_rate", "the finder's curve and the rate chosen"),
    "confusion-matrix": FigureKind("confusion_matrix", "counts and shares of each true class"),
    "roc": FigureKind("roc", "ROC curve, its area and a bootstrap interval"),
    "top-losses": FigureKind("top_losses", "the galaxies most wrong: right class and wrong class"),
    "stacked-maps": FigureKind("stacked_maps", "mean maps by true and predicted class"),
    "radial-profile": FigureKind("radial_profile", "mean attribution against radius, with bands"),
    "reliability": FigureKind("reliability", "how often the network is right where it is sure"),
}


def render_figure(
    name: str, store: Path, query: Query, path: Path, *, overwrite: bool = False
) -> list[Path]:
    """Draw a figure from a store and write it, its caption beside it.

    Parameters
    ----------
    name : str
        One of `FIGURES`.
    store : Path
        The store.
    query : Query
        The galaxies; ``n`` of None is the figure's own default.
    path : Path
        Figure to write: .pdf, .png or .svg.
    overwrite : bool, default False
        Replace files that are there.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    FigureError
        An unknown name, or a store that lacks what the figure shows.
    """
    if name not in FIGURES:
        raise FigureError(f"figure {name!r}: unknown, expected one of {', '.join(FIGURES)}")
    check_format(path)
    kind = FIGURES[name]
    if query.n is None:
        query = dataclasses.replace(query, n=kind.n)
    module = importlib.import_module(f"galfig.figures.{kind.module}")
    with open_store(store) as opened:
        selection = select_galaxies(opened, query)
        drawing = module.draw(opened, selection)
        return write_drawing(drawing, opened, selection, path, overwrite=overwrite)
