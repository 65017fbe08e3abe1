"""Saving a figure: the same bytes each time, and what it was made from inside the file."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import galfig
from galfig.captions import LATEX, PLAIN, Markup
from galfig.errors import OutputError
from galfig.figures.style import paper_style
from galfig.files import check_output, replace_file
from galfig.selection import Selection
from galfig.store import Store

FORMATS = (".pdf", ".png", ".svg")


@dataclass(frozen=True)
class Drawing:
    """A figure and what goes with it.

    Attributes
    ----------
    name : str
        Name of the kind of figure, such as "panels".
    title : str
        For the file's metadata.
    fig : Figure
        What was drawn.
    describe : callable
        Returns the caption in a markup, sentences, one a line.
    """

    name: str
    title: str
    fig: Figure
    describe: Callable[[Markup], str]


def write_drawing(
    drawing: Drawing, store: Store, selection: Selection, path: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write a figure and, beside it, its caption as .tex and .txt.

    Parameters
    ----------
    drawing : Drawing
        What was drawn.
    store : Store
        The open store that it was drawn from.
    selection : Selection
        The galaxies that it shows, recorded in its metadata.
    path : Path
        Figure to write: .pdf, .png or .svg.
    overwrite : bool, default False
        Replace files that are there.

    Returns
    -------
    list of Path
        The figure, and its captions.

    Raises
    ------
    OutputError
        Another suffix, or a file that is there. A caption that says the same already is none:
        one may draw a PDF and then a PNG.
    """
    check_format(path)
    captions = {
        path.with_suffix(".tex"): drawing.describe(LATEX),
        path.with_suffix(".txt"): drawing.describe(PLAIN),
    }
    new = {file: words for file, words in captions.items() if not _holds(file, words)}
    for file in (path, *new):
        check_output(file, overwrite=overwrite)
    save_figure(
        drawing.fig,
        path,
        title=drawing.title,
        description=drawing.describe(PLAIN).strip(),
        provenance=_describe_provenance(drawing.name, store, selection),
        overwrite=overwrite,
    )
    for file, words in new.items():
        with replace_file(file, overwrite=overwrite) as temporary:
            temporary.write_text(words, encoding="utf-8")
    return [path, *captions]


def save_figure(
    fig: Figure,
    path: Path,
    *,
    title: str,
    description: str,
    provenance: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write a figure as PDF, PNG or SVG, by suffix, with its provenance in the metadata.

    Parameters
    ----------
    fig : Figure
        What to write.
    path : Path
        Name of the file; it appears when it is complete.
    title, description : str
        For the metadata.
    provenance : mapping
        What the figure was made from: written as JSON, as Keywords of a PDF, the text chunk
        Comment of a PNG, the keywords of an SVG.
    overwrite : bool, default False
        Replace a file that is there.

    Raises
    ------
    OutputError
        Another suffix, a file that is there, or one that cannot be written.
    """
    check_format(path)
    record = json.dumps(provenance, sort_keys=True, ensure_ascii=False)
    creator = f"galfig {galfig.__version__}"
    # A date would make two runs differ.
    by_format: dict[str, dict[str, Any]] = {
        ".pdf": {
            "Title": title,
            "Subject": description,
            "Keywords": record,
            "Creator": creator,
            "CreationDate": None,
        },
        ".png": {
            "Title": title,
            "Description": description,
            "Comment": record,
            "Software": creator,
        },
        ".svg": {
            "Title": title,
            "Description": description,
            "Keywords": record,
            "Creator": creator,
            "Date": None,
        },
    }
    metadata = by_format[path.suffix.lower()]
    with paper_style(), replace_file(path, overwrite=overwrite) as temporary:
        fig.savefig(temporary, format=path.suffix.lower()[1:], metadata=metadata)


def _holds(path: Path, words: str) -> bool:
    """Tell whether a file holds just these words."""
    return path.is_file() and path.read_bytes() == words.encode()


def _describe_provenance(name: str, store: Store, selection: Selection) -> dict[str, Any]:
    """Return what a figure was made from, for its metadata."""
    keys = ("plan_digest", "catalog_sha256", "checkpoint_sha256", "galfig_version", "simulated")
    return {
        "figure": name,
        "galfig_version": galfig.__version__,
        "store": {key: store.attrs[key] for key in keys},
        "settings": store.settings,
        "selection": {"n_candidates": selection.n_candidates, **asdict(selection.query)},
        # The galaxies of a figure of all of them are those of the store.
        "objid": [str(store.objid[index]) for index in selection.indices]
        if len(selection.indices) < len(store)
        else "all",
    }


def check_format(path: Path) -> None:
    """Raise OutputError where the suffix is none that figures are written in."""
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path}: suffix {path.suffix!r}, expected {', '.join(FORMATS)}")
