"""Saving a figure: the same bytes each time, and what it was made from inside the file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import galfig
from galfig.errors import OutputError
from galfig.figures.style import paper_style
from galfig.files import replace_file

FORMATS = (".pdf", ".png", ".svg")


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


def check_format(path: Path) -> None:
    """Raise OutputError where the suffix is none that figures are written in."""
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path}: suffix {path.suffix!r}, expected {', '.join(FORMATS)}")
